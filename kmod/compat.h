/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between kernels from 5.15 on. HAVE_* come from probe.sh, which compiles each; never
 * from version numbers.
 */
#ifndef WEIR_COMPAT_H
#define WEIR_COMPAT_H

#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/hrtimer.h>

#include "weir_config.h"

static inline void weir_vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
#ifdef HAVE_VM_FLAGS_SET
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

static inline void weir_vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
#ifdef HAVE_VM_FLAGS_SET
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

static inline void weir_hrtimer_setup(struct hrtimer *timer,
				      enum hrtimer_restart (*fn)(struct hrtimer *))
{
#ifdef HAVE_HRTIMER_SETUP
	hrtimer_setup(timer, fn, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	timer->function = fn;
#endif
}

#endif
