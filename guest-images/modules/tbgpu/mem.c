// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers: VRAM, system pages, imported dma-bufs. All are on one list so that remove() can take
 * back every DMA mapping while files still hold the buffers.
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include <drm/drm_drv.h>
#include <drm/drm_prime.h>
#include <drm/drm_vma_manager.h>

#include "tbgpu.h"

#define FAULT_AROUND_PAGES	16

/* The caller holds bo_lock. */
static void unmap_system(struct tbgpu_bo *bo)
{
	if (!bo->mapped)
		return;
	dma_unmap_sgtable(tbgpu_dev(to_tbgpu(bo->base.dev)), bo->sgt, DMA_BIDIRECTIONAL, 0);
	bo->mapped = false;
}

static void free_system(struct tbgpu_bo *bo)
{
	if (bo->sgt) {
		sg_free_table(bo->sgt);
		kfree(bo->sgt);
	}
	if (bo->pages)
		drm_gem_put_pages(&bo->base, bo->pages, true, false);
}

static int alloc_system(struct tbgpu_bo *bo)
{
	struct drm_gem_object *obj = &bo->base;
	struct page **pages = drm_gem_get_pages(obj);
	struct sg_table *sgt;
	int ret;

	if (IS_ERR(pages))
		return PTR_ERR(pages);
	bo->pages = pages;
	sgt = drm_prime_pages_to_sg(obj->dev, pages, obj->size >> PAGE_SHIFT);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	bo->sgt = sgt;
	ret = dma_map_sgtable(tbgpu_dev(to_tbgpu(obj->dev)), sgt, DMA_BIDIRECTIONAL, 0);
	if (!ret)
		bo->mapped = true;
	return ret;
}

static void bo_free(struct drm_gem_object *obj)
{
	struct tbgpu_device *tdev = to_tbgpu(obj->dev);
	struct tbgpu_bo *bo = to_tbgpu_bo(obj);

	scoped_guard(mutex, &tdev->bo_lock) {
		list_del(&bo->node);
		unmap_system(bo);
	}
	if (bo->domain == TBGPU_DOMAIN_IMPORTED)
		tbgpu_import_free(bo);
	else if (bo->domain == TBGPU_DOMAIN_SYSTEM)
		free_system(bo);
	else
		tbgpu_vram_free(bo);
	drm_gem_object_release(obj);
	kfree(bo);
}

static int bo_vmap(struct drm_gem_object *obj, struct iosys_map *map)
{
	struct tbgpu_bo *bo = to_tbgpu_bo(obj);
	void *addr;
	int idx;

	if (bo->domain == TBGPU_DOMAIN_SYSTEM) {
		addr = vmap(bo->pages, obj->size >> PAGE_SHIFT, VM_MAP, PAGE_KERNEL);
		if (!addr)
			return -ENOMEM;
		iosys_map_set_vaddr(map, addr);
		return 0;
	}
	if (bo->domain != TBGPU_DOMAIN_VRAM)
		return -EOPNOTSUPP;
	if (!drm_dev_enter(obj->dev, &idx))
		return -ENODEV;
	iosys_map_set_vaddr_iomem(map, ioremap_wc(tbgpu_vram_phys(bo), obj->size));
	drm_dev_exit(idx);
	return map->vaddr_iomem ? 0 : -ENOMEM;
}

static void bo_vunmap(struct drm_gem_object *obj, struct iosys_map *map)
{
	if (map->is_iomem)
		iounmap(map->vaddr_iomem);
	else
		vunmap(map->vaddr);
}

static struct sg_table *bo_get_sg_table(struct drm_gem_object *obj)
{
	return drm_prime_pages_to_sg(obj->dev, to_tbgpu_bo(obj)->pages, obj->size >> PAGE_SHIFT);
}

/* Pages behind the faulting one are a courtesy: that they are there already is no error. */
static vm_fault_t fault_vram(struct vm_fault *vmf, struct tbgpu_bo *bo, pgoff_t page)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long pfn = PHYS_PFN(tbgpu_vram_phys(bo)) + page;
	unsigned long count = min3((vma->vm_end - vmf->address) >> PAGE_SHIFT,
				   (bo->base.size >> PAGE_SHIFT) - page,
				   (unsigned long)FAULT_AROUND_PAGES);
	vm_fault_t ret = vmf_insert_pfn(vma, vmf->address & PAGE_MASK, pfn);

	for (unsigned long i = 1; ret == VM_FAULT_NOPAGE && i < count; i++) {
		unsigned long addr = (vmf->address & PAGE_MASK) + (i << PAGE_SHIFT);

		if (vmf_insert_pfn(vma, addr, pfn + i) != VM_FAULT_NOPAGE)
			break;
	}
	return ret;
}

static vm_fault_t bo_fault(struct vm_fault *vmf)
{
	struct tbgpu_bo *bo = to_tbgpu_bo((struct drm_gem_object *)vmf->vma->vm_private_data);
	pgoff_t page = vmf->pgoff - drm_vma_node_start(&bo->base.vma_node);
	vm_fault_t ret;
	int idx;

	if (page >= bo->base.size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	if (bo->domain == TBGPU_DOMAIN_SYSTEM)
		return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(bo->pages[page]));
	/* drm_dev_unplug() zaps what was inserted before it, so no dead page is left behind. */
	if (!drm_dev_enter(bo->base.dev, &idx))
		return VM_FAULT_SIGBUS;
	ret = fault_vram(vmf, bo, page);
	drm_dev_exit(idx);
	return ret;
}

static const struct vm_operations_struct bo_vm_ops = {
	.fault = bo_fault,
	.open = drm_gem_vm_open,
	.close = drm_gem_vm_close,
};

static int bo_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	struct tbgpu_bo *bo = to_tbgpu_bo(obj);

	if (bo->domain == TBGPU_DOMAIN_IMPORTED || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = vm_get_page_prot(vma->vm_flags);
	if (bo->domain == TBGPU_DOMAIN_VRAM)
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	return 0;
}

static struct dma_buf *bo_export(struct drm_gem_object *obj, int flags)
{
	if (to_tbgpu_bo(obj)->domain == TBGPU_DOMAIN_VRAM)
		return tbgpu_dmabuf_export(obj, flags);
	return drm_gem_prime_export(obj, flags);
}

static enum drm_gem_object_status bo_status(struct drm_gem_object *obj)
{
	return DRM_GEM_OBJECT_RESIDENT;
}

const struct drm_gem_object_funcs tbgpu_bo_funcs = {
	.free = bo_free,
	.export = bo_export,
	.get_sg_table = bo_get_sg_table,
	.vmap = bo_vmap,
	.vunmap = bo_vunmap,
	.mmap = bo_mmap,
	.status = bo_status,
	.vm_ops = &bo_vm_ops,
};

/* From here on drm_gem_object_put() frees it; bo->base is initialised. */
void tbgpu_bo_init_common(struct tbgpu_device *tdev, struct tbgpu_bo *bo, u32 domain)
{
	bo->domain = domain;
	guard(mutex)(&tdev->bo_lock);
	list_add_tail(&bo->node, &tdev->bos);
}

/* The caller is in drm_dev_enter(). size is a multiple of PAGE_SIZE. */
struct tbgpu_bo *tbgpu_bo_create(struct tbgpu_device *tdev, u64 size, u32 domain)
{
	struct tbgpu_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);
	int ret = 0;

	if (!bo)
		return ERR_PTR(-ENOMEM);
	bo->base.funcs = &tbgpu_bo_funcs;
	if (domain == TBGPU_DOMAIN_SYSTEM)
		ret = drm_gem_object_init(&tdev->drm, &bo->base, size);
	else
		drm_gem_private_object_init(&tdev->drm, &bo->base, size);
	if (ret) {
		kfree(bo);
		return ERR_PTR(ret);
	}
	tbgpu_bo_init_common(tdev, bo, domain);
	ret = domain == TBGPU_DOMAIN_SYSTEM ? alloc_system(bo) : tbgpu_vram_alloc(bo);
	if (!ret)
		ret = drm_gem_create_mmap_offset(&bo->base);
	if (ret) {
		drm_gem_object_put(&bo->base);
		return ERR_PTR(ret);
	}
	return bo;
}

struct tbgpu_list *tbgpu_list_alloc(struct tbgpu_device *tdev, size_t size)
{
	struct tbgpu_list *list = kzalloc(sizeof(*list), GFP_KERNEL);

	if (!list)
		return NULL;
	list->size = size;
	list->cpu = dma_alloc_coherent(tbgpu_dev(tdev), size, &list->dma, GFP_KERNEL);
	if (!list->cpu) {
		kfree(list);
		return NULL;
	}
	guard(mutex)(&tdev->list_lock);
	list_add(&list->node, &tdev->lists);
	return list;
}

/* The caller holds list_lock. */
static void release_list(struct tbgpu_device *tdev, struct tbgpu_list *list)
{
	list_del_init(&list->node);
	if (list->cpu)
		dma_free_coherent(tbgpu_dev(tdev), list->size, list->cpu, list->dma);
	list->cpu = NULL;
}

void tbgpu_list_free(struct tbgpu_device *tdev, struct tbgpu_list *list)
{
	if (!list)
		return;
	scoped_guard(mutex, &tdev->list_lock)
		release_list(tdev, list);
	kfree(list);
}

/* After drm_dev_unplug(), engines stopped: nobody maps or uses DMA addresses any more. */
void tbgpu_mem_teardown(struct tbgpu_device *tdev)
{
	struct tbgpu_list *list, *next;
	struct tbgpu_bo *bo;

	scoped_guard(mutex, &tdev->bo_lock)
		list_for_each_entry(bo, &tdev->bos, node)
			unmap_system(bo);
	scoped_guard(mutex, &tdev->list_lock)
		list_for_each_entry_safe(list, next, &tdev->lists, node)
			release_list(tdev, list);
}
