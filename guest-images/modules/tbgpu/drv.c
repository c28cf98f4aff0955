// SPDX-License-Identifier: GPL-2.0
/* Probe, remove and what DRM needs to know of the driver. */
#include <linux/dma-mapping.h>
#include <linux/module.h>

#include <drm/drm_drv.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>

#include "tbgpu.h"

uint tbgpu_job_timeout_ms = 2000;
module_param_named(job_timeout_ms, tbgpu_job_timeout_ms, uint, 0444);
MODULE_PARM_DESC(job_timeout_ms, "a job that runs longer is ended, in ms; 0: never (2000)");

uint tbgpu_ring_log2 = 10;
module_param_named(ring_log2, tbgpu_ring_log2, uint, 0444);
MODULE_PARM_DESC(ring_log2, "a ring has 2^n entries, 3 up to what the device can (10)");

static char *dmabuf_policy = "static-ok";
module_param(dmabuf_policy, charp, 0444);
MODULE_PARM_DESC(dmabuf_policy, "who may import VRAM: static-ok, p2pdma, refuse-static");

static const char * const policy_names[] = {
	[TBGPU_DMABUF_STATIC_OK] = "static-ok",
	[TBGPU_DMABUF_P2PDMA] = "p2pdma",
	[TBGPU_DMABUF_REFUSE_STATIC] = "refuse-static",
};

static const struct file_operations tbgpu_fops = {
	.owner = THIS_MODULE,
	DRM_GEM_FOPS,
	.show_fdinfo = drm_show_fdinfo,
};

static const struct drm_driver tbgpu_drm_driver = {
	.driver_features = DRIVER_GEM | DRIVER_RENDER | DRIVER_SYNCOBJ | DRIVER_SYNCOBJ_TIMELINE,
	.name = "tbgpu",
	.desc = "testbed virtual GPU",
	.major = 1,
	.minor = 0,
	.fops = &tbgpu_fops,
	.open = tbgpu_open,
	.postclose = tbgpu_postclose,
	.ioctls = tbgpu_ioctls,
	.num_ioctls = TBGPU_NUM_IOCTLS,
	.gem_prime_import = tbgpu_gem_prime_import,
	.show_fdinfo = tbgpu_show_fdinfo,
};

static int tbgpu_check_params(struct device *dev, struct tbgpu_device *tdev)
{
	int policy = match_string(policy_names, ARRAY_SIZE(policy_names), dmabuf_policy);

	if (policy < 0)
		return dev_err_probe(dev, -EINVAL, "dmabuf_policy '%s' is not known\n",
				     dmabuf_policy);
	if (tbgpu_ring_log2 < 3)
		return dev_err_probe(dev, -EINVAL, "ring_log2 %u is below 3\n", tbgpu_ring_log2);
	tdev->policy = policy;
	tdev->ring_log2 = tbgpu_ring_log2;
	tdev->job_timeout_ms = tbgpu_job_timeout_ms;
	return 0;
}

static int tbgpu_init_software(struct tbgpu_device *tdev)
{
	int ret;

	INIT_LIST_HEAD(&tdev->bos);
	INIT_LIST_HEAD(&tdev->lists);
	ret = drmm_mutex_init(&tdev->drm, &tdev->bo_lock);
	if (ret)
		return ret;
	ret = drmm_mutex_init(&tdev->drm, &tdev->list_lock);
	if (ret)
		return ret;
	return drmm_mutex_init(&tdev->drm, &tdev->reset_lock);
}

static int tbgpu_init_pci(struct tbgpu_device *tdev)
{
	struct pci_dev *pdev = tdev->pdev;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	tdev->regs = pcim_iomap_region(pdev, TBGPU_BAR_REGS, "tbgpu");
	if (IS_ERR(tdev->regs))
		return PTR_ERR(tdev->regs);
	ret = pcim_request_region(pdev, TBGPU_BAR_VRAM, "tbgpu");
	if (ret)
		return ret;
	pci_set_master(pdev);
	return 0;
}

static int tbgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct tbgpu_device *tdev;
	int ret;

	tdev = devm_drm_dev_alloc(&pdev->dev, &tbgpu_drm_driver, struct tbgpu_device, drm);
	if (IS_ERR(tdev))
		return PTR_ERR(tdev);
	tdev->pdev = pdev;
	pci_set_drvdata(pdev, tdev);

	ret = tbgpu_check_params(&pdev->dev, tdev);
	if (ret)
		return ret;
	ret = tbgpu_init_software(tdev);
	if (ret)
		return ret;
	ret = tbgpu_init_pci(tdev);
	if (ret)
		return ret;
	ret = tbgpu_device_init(tdev);
	if (ret)
		return ret;
	ret = tbgpu_vram_init(tdev);
	if (ret)
		return ret;
	ret = tbgpu_dmabuf_init(tdev);
	if (ret)
		return ret;
	ret = tbgpu_sched_init(tdev);
	if (ret)
		return ret;
	ret = tbgpu_irq_init(tdev);
	if (ret)
		return ret;
	ret = tbgpu_device_start(tdev);
	if (ret)
		goto err_irq;

	tbgpu_debugfs_init(tdev);
	ret = drm_dev_register(&tdev->drm, 0);
	if (ret)
		goto err_quiesce;
	dev_info(&pdev->dev, "%u engines, %llu MiB VRAM, dma-buf policy %s\n", tdev->num_engines,
		 tdev->vram.size >> 20, policy_names[tdev->policy]);
	return 0;

err_quiesce:
	tbgpu_device_quiesce(tdev);
err_irq:
	tbgpu_irq_fini(tdev);
	return ret;
}

/*
 * The device may be there (unbind), on its way out, or gone for a while: nothing here waits for it.
 * Open files, mappings and dma-bufs outlive this; they keep the drm_device, never the hardware.
 */
static void tbgpu_remove(struct pci_dev *pdev)
{
	struct tbgpu_device *tdev = pci_get_drvdata(pdev);

	drm_dev_unplug(&tdev->drm);
	tbgpu_device_quiesce(tdev);
	tbgpu_irq_fini(tdev);
	tbgpu_device_lost(tdev);
	tbgpu_dmabuf_teardown(tdev);
	tbgpu_import_teardown(tdev);
	tbgpu_mem_teardown(tdev);
}

static void tbgpu_shutdown(struct pci_dev *pdev)
{
	tbgpu_device_quiesce(pci_get_drvdata(pdev));
}

static const struct pci_device_id tbgpu_ids[] = {
	{ PCI_DEVICE(TBGPU_VENDOR_ID, TBGPU_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, tbgpu_ids);

static struct pci_driver tbgpu_pci_driver = {
	.name = "tbgpu",
	.id_table = tbgpu_ids,
	.probe = tbgpu_probe,
	.remove = tbgpu_remove,
	.shutdown = tbgpu_shutdown,
	.err_handler = &tbgpu_err_handlers,
};
module_pci_driver(tbgpu_pci_driver);

MODULE_DESCRIPTION("testbed virtual GPU");
MODULE_AUTHOR("testbed");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
