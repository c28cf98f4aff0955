// SPDX-License-Identifier: GPL-2.0
/* What one can see: debugfs (counters, vram) and fdinfo of open files. */
#include <linux/seq_file.h>

#include <drm/drm_debugfs.h>
#include <drm/drm_print.h>

#include "tbgpu.h"

static void show_engine(struct seq_file *m, struct tbgpu_engine *engine)
{
	const struct tbgpu_stats *stats = &engine->stats;
	const struct {
		const char *name;
		const atomic64_t *value;
	} rows[] = {
		{ "submitted", &stats->submitted },
		{ "completed", &stats->completed },
		{ "failed", &stats->failed },
		{ "timeouts", &stats->timeouts },
		{ "errors", &stats->errors },
		{ "lost_irqs", &stats->lost_irqs },
		{ "irqs", &stats->irqs },
		{ "spurious", &stats->spurious },
		{ "resets", &stats->resets },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		seq_printf(m, "%s.%s %lld\n", engine->name, rows[i].name,
			   atomic64_read(rows[i].value));
}

/* One "name value" per line. */
static int show_counters(struct seq_file *m, void *unused)
{
	struct drm_debugfs_entry *entry = m->private;
	struct tbgpu_device *tdev = to_tbgpu(entry->dev);
	unsigned int bos = 0, imported = 0, pins = 0;
	struct tbgpu_bo *bo;
	u64 used;

	for (unsigned int i = 0; i < tdev->num_engines; i++)
		show_engine(m, &tdev->engines[i]);
	scoped_guard(mutex, &tdev->bo_lock)
		list_for_each_entry(bo, &tdev->bos, node) {
			bos++;
			imported += bo->domain == TBGPU_DOMAIN_IMPORTED;
			pins += atomic_read(&bo->pins);
		}
	scoped_guard(mutex, &tdev->vram.lock)
		used = tdev->vram.used;
	seq_printf(m, "events %lld\n", atomic64_read(&tdev->events));
	seq_printf(m, "jobs %lld\n", atomic64_read(&tdev->next_job));
	seq_printf(m, "buffers %u\nimported %u\npins %u\n", bos, imported, pins);
	seq_printf(m, "vram_used %llu\nvram_free %llu\n", used, tdev->vram.size - used);
	return 0;
}

static int show_vram(struct seq_file *m, void *unused)
{
	struct drm_debugfs_entry *entry = m->private;
	struct tbgpu_device *tdev = to_tbgpu(entry->dev);
	struct drm_printer p = drm_seq_file_printer(m);

	guard(mutex)(&tdev->vram.lock);
	drm_mm_print(&tdev->vram.mm, &p);
	return 0;
}

void tbgpu_debugfs_init(struct tbgpu_device *tdev)
{
	drm_debugfs_add_file(&tdev->drm, "counters", show_counters, NULL);
	drm_debugfs_add_file(&tdev->drm, "vram", show_vram, NULL);
}

static void show_memory(struct drm_printer *p, struct drm_file *file, u32 domain,
			const char *region)
{
	struct drm_memory_stats stats = {};
	struct drm_gem_object *obj;
	int id;

	spin_lock(&file->table_lock);
	idr_for_each_entry(&file->object_idr, obj, id) {
		if (!obj || to_tbgpu_bo(obj)->domain != domain)
			continue;
		if (drm_gem_object_is_shared_for_memory_stats(obj))
			stats.shared += obj->size;
		else
			stats.private += obj->size;
		stats.resident += obj->size;
		if (!dma_resv_test_signaled(obj->resv, dma_resv_usage_rw(true)))
			stats.active += obj->size;
	}
	spin_unlock(&file->table_lock);
	drm_print_memory_stats(p, &stats, DRM_GEM_OBJECT_ACTIVE | DRM_GEM_OBJECT_RESIDENT, region);
}

/* drm_show_fdinfo() has printed drm-driver, client id and PCI address. */
void tbgpu_show_fdinfo(struct drm_printer *p, struct drm_file *file)
{
	struct tbgpu_file *tfile = file->driver_priv;
	struct tbgpu_device *tdev = tfile->tdev;

	for (unsigned int i = 0; i < tdev->num_engines; i++)
		drm_printf(p, "drm-engine-%s:\t%lld ns\n", tdev->engines[i].name,
			   atomic64_read(&tfile->busy_ns[i]));
	show_memory(p, file, TBGPU_DOMAIN_VRAM, "vram");
	show_memory(p, file, TBGPU_DOMAIN_SYSTEM, "system");
	show_memory(p, file, TBGPU_DOMAIN_IMPORTED, "imported");
}
