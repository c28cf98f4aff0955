/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the driver know of each other. docs/drivers/tbgpu.md tells the design. */
#ifndef TBGPU_H
#define TBGPU_H

#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_mm.h>
#include <drm/gpu_scheduler.h>

#include "regs.h"
#include "tbgpu_drm.h"

struct seq_file;
struct p2pdma_provider;

/* Module parameters (drv.c) */
extern uint tbgpu_job_timeout_ms;
extern uint tbgpu_ring_log2;

enum tbgpu_dmabuf_policy {
	TBGPU_DMABUF_STATIC_OK,		/* any importer gets BAR addresses */
	TBGPU_DMABUF_P2PDMA,		/* only where pci_p2pdma says it works */
	TBGPU_DMABUF_REFUSE_STATIC,	/* importers must allow peer to peer */
};

struct tbgpu_stats {
	atomic64_t submitted;
	atomic64_t completed;		/* without an error */
	atomic64_t failed;		/* fence signalled with an error */
	atomic64_t timeouts;		/* ended by an engine reset */
	atomic64_t errors;		/* reported by the device */
	atomic64_t lost_irqs;		/* found done when the timeout looked */
	atomic64_t irqs;
	atomic64_t spurious;		/* interrupts that found nothing new */
	atomic64_t resets;
};

struct tbgpu_engine {
	struct tbgpu_device *tdev;
	unsigned int index;
	u32 type;
	char name[24];
	void __iomem *regs;
	struct drm_gpu_scheduler sched;
	struct work_struct error_work;
	u64 fence_context;
	struct tbgpu_stats stats;

	struct tbgpu_cmd *ring;
	dma_addr_t ring_dma;
	__le64 *fence;			/* written by the device */
	dma_addr_t fence_dma;
	u32 ring_mask;

	spinlock_t lock;		/* everything below, and ring, TAIL and HEAD */
	struct list_head inflight;	/* tbgpu_job.node, oldest first */
	u64 tail_pos;			/* entries written; & ring_mask is the index */
	u64 last_seq;			/* given to the newest job */
	u64 done_seq;			/* highest that the device wrote */
	unsigned long progress;		/* jiffies when the oldest job in flight became that */
	bool dead;
};

struct tbgpu_device {
	struct drm_device drm;
	struct pci_dev *pdev;
	void __iomem *regs;
	unsigned int num_engines;
	struct tbgpu_engine engines[TBGPU_MAX_ENGINES];
	u32 version;
	u32 features;
	u64 max_transfer;
	u32 ring_log2;
	u32 job_timeout_ms;
	int num_irqs;
	bool lost;			/* registers read as ones, or unplugged */
	atomic64_t next_job;
	atomic64_t events;

	struct workqueue_struct *reset_wq;	/* ordered: timeouts and errors of all engines */
	struct workqueue_struct *free_wq;	/* frees jobs, may take reservation locks */
	struct mutex reset_lock;		/* one recovery or function reset at a time */

	struct {
		resource_size_t base;
		u64 size;
		struct mutex lock;		/* mm */
		struct drm_mm mm;
		u64 used;
	} vram;

	struct mutex bo_lock;			/* bos, tbgpu_bo.dmabuf */
	struct list_head bos;
	struct mutex list_lock;			/* lists, tbgpu_list.cpu */
	struct list_head lists;

	enum tbgpu_dmabuf_policy policy;
	struct p2pdma_provider *p2p;
};

struct tbgpu_bo {
	struct drm_gem_object base;
	u32 domain;			/* TBGPU_DOMAIN_* */
	struct list_head node;		/* tbgpu_device.bos */
	struct drm_mm_node vram;
	struct page **pages;		/* of TBGPU_DOMAIN_SYSTEM */
	struct sg_table *sgt;		/* for our DMA: SYSTEM, and IMPORTED once mapped */
	bool mapped;			/* sgt of SYSTEM is mapped for DMA */
	bool torn;			/* device went, never map again */
	struct dma_buf *dmabuf;		/* our export of VRAM that is alive */
	atomic_t pins;
};

/* DMA memory with scatter lists of a job; freed early when the device goes. */
struct tbgpu_list {
	struct list_head node;
	void *cpu;
	dma_addr_t dma;
	size_t size;
};

struct tbgpu_file {
	struct tbgpu_device *tdev;
	struct kref ref;
	struct drm_sched_entity entities[TBGPU_MAX_ENGINES];
	struct mutex submit_lock[TBGPU_MAX_ENGINES];	/* arm and push in one piece */
	atomic64_t busy_ns[TBGPU_MAX_ENGINES];
};

struct tbgpu_job_bo {
	struct tbgpu_bo *bo;
	enum dma_resv_usage usage;	/* BOOKKEEP: only as semaphore */
};

struct tbgpu_job {
	struct drm_sched_job base;
	struct tbgpu_engine *engine;
	struct tbgpu_file *tfile;
	u64 id;
	u64 seq;
	bool cancelled;			/* user space was told that it does not exist */
	struct work_struct free_work;

	struct list_head node;		/* tbgpu_engine.inflight */
	u64 end_pos;			/* ring position behind the last command */
	u32 first;			/* commands before it are done (after a reset) */

	struct tbgpu_cmd *cmds;
	u32 num_cmds;
	struct tbgpu_list *list;
	u32 num_bos;
	struct tbgpu_job_bo *bos;
	struct dma_fence *fence;	/* of the hardware; initialised when run */
};

#define to_tbgpu(d)		container_of(d, struct tbgpu_device, drm)
#define to_tbgpu_bo(o)		container_of(o, struct tbgpu_bo, base)
#define to_tbgpu_job(j)		container_of(j, struct tbgpu_job, base)

static inline struct device *tbgpu_dev(struct tbgpu_device *tdev)
{
	return &tdev->pdev->dev;
}

/* device.c: registers of the whole device */
int tbgpu_device_init(struct tbgpu_device *tdev);
int tbgpu_device_start(struct tbgpu_device *tdev);
void tbgpu_device_quiesce(struct tbgpu_device *tdev);
bool tbgpu_device_gone(struct tbgpu_device *tdev);
void tbgpu_device_lost(struct tbgpu_device *tdev);
u64 tbgpu_device_timestamp(struct tbgpu_device *tdev);
extern const struct pci_error_handlers tbgpu_err_handlers;

/* irq.c */
int tbgpu_irq_init(struct tbgpu_device *tdev);
void tbgpu_irq_fini(struct tbgpu_device *tdev);

/* ring.c: one engine's ring */
int tbgpu_ring_init(struct tbgpu_engine *engine);
u32 tbgpu_ring_credits(struct tbgpu_device *tdev);
int tbgpu_ring_submit(struct tbgpu_engine *engine, struct tbgpu_job *job);
bool tbgpu_ring_collect(struct tbgpu_engine *engine);
int tbgpu_ring_collect_head(struct tbgpu_engine *engine);
int tbgpu_ring_halt(struct tbgpu_engine *engine, struct tbgpu_job *guilty, int error);
void tbgpu_ring_start(struct tbgpu_engine *engine);
void tbgpu_ring_kill(struct tbgpu_engine *engine);
struct tbgpu_job *tbgpu_ring_first(struct tbgpu_engine *engine);
bool tbgpu_ring_is_late(struct tbgpu_engine *engine, struct tbgpu_job *job);

/* fence.c: what the hardware signals */
struct dma_fence *tbgpu_fence_alloc(struct tbgpu_engine *engine);
void tbgpu_fence_init(struct dma_fence *fence, struct tbgpu_engine *engine, u64 seq);
void tbgpu_fence_free(struct dma_fence *fence);

/* sched.c */
int tbgpu_sched_init(struct tbgpu_device *tdev);
void tbgpu_sched_park(struct tbgpu_engine *engine, struct drm_sched_job *bad);
void tbgpu_sched_unpark(struct tbgpu_engine *engine);

/* vram.c: device memory */
int tbgpu_vram_init(struct tbgpu_device *tdev);
int tbgpu_vram_alloc(struct tbgpu_bo *bo);
void tbgpu_vram_free(struct tbgpu_bo *bo);
phys_addr_t tbgpu_vram_phys(struct tbgpu_bo *bo);

/* mem.c: buffers */
struct tbgpu_bo *tbgpu_bo_create(struct tbgpu_device *tdev, u64 size, u32 domain);
void tbgpu_bo_init_common(struct tbgpu_device *tdev, struct tbgpu_bo *bo, u32 domain);
struct tbgpu_list *tbgpu_list_alloc(struct tbgpu_device *tdev, size_t size);
void tbgpu_list_free(struct tbgpu_device *tdev, struct tbgpu_list *list);
void tbgpu_mem_teardown(struct tbgpu_device *tdev);
extern const struct drm_gem_object_funcs tbgpu_bo_funcs;

/* dmabuf.c: VRAM for others. import.c: buffers of others */
struct dma_buf *tbgpu_dmabuf_export(struct drm_gem_object *obj, int flags);
bool tbgpu_dmabuf_is_ours(struct drm_device *drm, struct dma_buf *dmabuf);
int tbgpu_dmabuf_init(struct tbgpu_device *tdev);
void tbgpu_dmabuf_teardown(struct tbgpu_device *tdev);
struct drm_gem_object *tbgpu_gem_prime_import(struct drm_device *drm, struct dma_buf *dmabuf);
int tbgpu_import_map(struct tbgpu_bo *bo);
void tbgpu_import_free(struct tbgpu_bo *bo);
void tbgpu_import_teardown(struct tbgpu_device *tdev);

/* range.c: a range of a buffer as pieces that the device can address */
struct tbgpu_piece {
	u64 address;
	u64 length;
	enum tbgpu_space space;
};

struct tbgpu_range {
	struct tbgpu_bo *bo;
	u64 offset;			/* in the buffer */
	struct scatterlist *sg;		/* current entry, unused for VRAM */
	u32 left;			/* entries from it on */
	u64 skip;			/* bytes of it that are behind us */
};

void tbgpu_range_init(struct tbgpu_range *range, struct tbgpu_bo *bo, u64 offset);
struct tbgpu_piece tbgpu_range_next(struct tbgpu_range *range, u64 limit);

/* command.c: operations of user space to ring entries */
#define TBGPU_OP_BOS	3		/* src, dst, src2 */

int tbgpu_op_check(struct tbgpu_engine *engine, const struct drm_tbgpu_op *op);
bool tbgpu_op_operand(const struct drm_tbgpu_op *op, unsigned int which, u32 *handle,
		      enum dma_resv_usage *usage);
int tbgpu_job_build(struct tbgpu_job *job, const struct drm_tbgpu_op *ops,
		    struct tbgpu_bo *(*op_bos)[TBGPU_OP_BOS], u32 count);

/* sync.c: fences of user space */
struct tbgpu_sync_out {
	struct drm_syncobj *syncobj;
	struct dma_fence_chain *chain;
	struct sync_file *file;
	int fd;
	u64 point;
};

struct tbgpu_syncs {
	struct drm_file *file;
	struct drm_tbgpu_sync *syncs;
	u32 count;
	struct tbgpu_sync_out outs[TBGPU_MAX_SYNCS];
	u32 num_outs;
};

int tbgpu_syncs_load(struct tbgpu_syncs *set, u64 user, u32 count);
int tbgpu_syncs_wait(struct tbgpu_syncs *set, struct drm_sched_job *job);
int tbgpu_syncs_attach(struct tbgpu_syncs *set, struct dma_fence *fence);
void tbgpu_syncs_publish(struct tbgpu_syncs *set, struct dma_fence *fence);
void tbgpu_syncs_free(struct tbgpu_syncs *set);

/* exec.c, ioctl.c */
int tbgpu_exec_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
void tbgpu_job_free(struct tbgpu_job *job);
void tbgpu_file_put(struct tbgpu_file *tfile);
int tbgpu_open(struct drm_device *drm, struct drm_file *file);
void tbgpu_postclose(struct drm_device *drm, struct drm_file *file);
extern const struct drm_ioctl_desc tbgpu_ioctls[];

#define TBGPU_NUM_IOCTLS	5

/* stats.c: debugfs and fdinfo */
void tbgpu_debugfs_init(struct tbgpu_device *tdev);
void tbgpu_show_fdinfo(struct drm_printer *p, struct drm_file *file);

#endif
