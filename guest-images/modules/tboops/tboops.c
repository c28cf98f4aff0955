// SPDX-License-Identifier: GPL-2.0
/*
 * A module that misbehaves on purpose when it is loaded, so that the judge of kernel logs can be
 * tested: insmod tboops.ko how=null
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/string.h>

static char *how = "";
module_param(how, charp, 0444);
MODULE_PARM_DESC(how, "null, warn, bug, panic, hung, sleep_atomic, refcount or lockup");

static uint seconds = 30;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "how long lockup keeps a CPU busy (30)");

static struct task_struct *sleeper;
static int *nowhere;

static int oops_null(void)
{
	return READ_ONCE(*READ_ONCE(nowhere));
}

static int oops_warn(void)
{
	WARN(1, "tboops: warning on purpose\n");
	return 0;
}

static int oops_bug(void)
{
	BUG();
	return 0;
}

static int oops_panic(void)
{
	panic("tboops: panic on purpose");
	return 0;
}

/* Not interruptible and never woken, until the module is removed. */
static int sleep_in_d(void *unused)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static int oops_hung(void)
{
	sleeper = kthread_run(sleep_in_d, NULL, "tboops-hung");
	return PTR_ERR_OR_ZERO(sleeper);
}

static int oops_sleep_atomic(void)
{
	preempt_disable();
	schedule();
	preempt_enable();
	return 0;
}

static int oops_refcount(void)
{
	refcount_t ref = REFCOUNT_INIT(1);

	if (refcount_dec_and_test(&ref))
		refcount_inc(&ref);
	return 0;
}

static int oops_lockup(void)
{
	unsigned long end = jiffies + seconds * HZ;

	preempt_disable();
	while (time_before(jiffies, end))
		cpu_relax();
	preempt_enable();
	return 0;
}

static const struct {
	const char *name;
	int (*act)(void);
} acts[] = {
	{ "null", oops_null },
	{ "warn", oops_warn },
	{ "bug", oops_bug },
	{ "panic", oops_panic },
	{ "hung", oops_hung },
	{ "sleep_atomic", oops_sleep_atomic },
	{ "refcount", oops_refcount },
	{ "lockup", oops_lockup },
};

static int __init tboops_init(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(acts); i++)
		if (!strcmp(how, acts[i].name))
			return acts[i].act();
	pr_err("tboops: how=%s is not known\n", how);
	return -EINVAL;
}
module_init(tboops_init);

static void __exit tboops_exit(void)
{
	if (sleeper)
		kthread_stop(sleeper);
}
module_exit(tboops_exit);

MODULE_DESCRIPTION("oopses on purpose");
MODULE_AUTHOR("testbed");
MODULE_LICENSE("GPL");
