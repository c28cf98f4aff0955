// SPDX-License-Identifier: GPL-2.0
/* The whole device: identify, enable, quiesce, notice that it is gone, function-level reset. */
#include <linux/io.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>

#include "tbgpu.h"

static u64 read64(void __iomem *lo, void __iomem *hi)
{
	u64 low = readl(lo);

	return low | (u64)readl(hi) << 32;
}

/* Reading LO latches HI, so two readers must not mix. */
u64 tbgpu_device_timestamp(struct tbgpu_device *tdev)
{
	guard(mutex)(&tdev->reset_lock);
	return read64(tdev->regs + TBGPU_REG_TIMESTAMP_LO, tdev->regs + TBGPU_REG_TIMESTAMP_HI);
}

/* A device that was pulled or broke down answers every read with ones; ID never reads so else. */
bool tbgpu_device_gone(struct tbgpu_device *tdev)
{
	return READ_ONCE(tdev->lost) || readl(tdev->regs + TBGPU_REG_ID) == TBGPU_ALL_ONES;
}

int tbgpu_device_init(struct tbgpu_device *tdev)
{
	struct device *dev = tbgpu_dev(tdev);
	void __iomem *regs = tdev->regs;
	u32 id = readl(regs + TBGPU_REG_ID);
	u32 max_ring;

	if (id != TBGPU_ID_VALUE)
		return dev_err_probe(dev, -ENODEV, "ID register reads %#x\n", id);
	tdev->version = readl(regs + TBGPU_REG_VERSION);
	if (tdev->version >> 16 != 1)
		return dev_err_probe(dev, -ENODEV, "device version %u.%u is not 1.x\n",
				     tdev->version >> 16, tdev->version & 0xffff);
	writel(TBGPU_CONTROL_RESET, regs + TBGPU_REG_CONTROL);

	tdev->num_engines = readl(regs + TBGPU_REG_ENGINES);
	if (!tdev->num_engines || tdev->num_engines > TBGPU_MAX_ENGINES)
		return dev_err_probe(dev, -EIO, "%u engines\n", tdev->num_engines);
	tdev->features = readl(regs + TBGPU_REG_FEATURES);
	tdev->max_transfer = readl(regs + TBGPU_REG_MAX_TRANSFER);
	tdev->vram.size = read64(regs + TBGPU_REG_VRAM_SIZE_LO, regs + TBGPU_REG_VRAM_SIZE_HI);
	max_ring = readl(regs + TBGPU_REG_MAX_RING_LOG2);
	if (max_ring > 16 || tdev->ring_log2 > max_ring)
		return dev_err_probe(dev, -EINVAL, "ring_log2 %u, the device has at most %u\n",
				     tdev->ring_log2, max_ring);
	return 0;
}

static u32 intr_mask(struct tbgpu_device *tdev)
{
	u32 mask = TBGPU_INTR_EVENT;

	for (unsigned int i = 0; i < tdev->num_engines; i++)
		mask |= TBGPU_INTR_DONE(i) | TBGPU_INTR_ERROR(i);
	return mask;
}

static void start_hardware(struct tbgpu_device *tdev)
{
	writel(~0, tdev->regs + TBGPU_REG_INTR_STATUS);
	writel(intr_mask(tdev), tdev->regs + TBGPU_REG_INTR_ENABLE);
	for (unsigned int i = 0; i < tdev->num_engines; i++)
		tbgpu_ring_start(&tdev->engines[i]);
	writel(TBGPU_CONTROL_ENABLE, tdev->regs + TBGPU_REG_CONTROL);
}

int tbgpu_device_start(struct tbgpu_device *tdev)
{
	start_hardware(tdev);
	return tbgpu_device_gone(tdev) ? -ENODEV : 0;
}

/* No DMA and no interrupt after this; the read makes sure that the reset has taken effect. */
void tbgpu_device_quiesce(struct tbgpu_device *tdev)
{
	writel(0, tdev->regs + TBGPU_REG_INTR_ENABLE);
	writel(TBGPU_CONTROL_RESET, tdev->regs + TBGPU_REG_CONTROL);
	readl(tdev->regs + TBGPU_REG_STATUS);
	pci_clear_master(tdev->pdev);
}

/* Every job that was or will be given to the hardware ends with -ENODEV. For good. */
void tbgpu_device_lost(struct tbgpu_device *tdev)
{
	bool first = !xchg(&tdev->lost, true);

	for (unsigned int i = 0; i < tdev->num_engines; i++)
		tbgpu_ring_kill(&tdev->engines[i]);
	if (first && !drm_dev_is_unplugged(&tdev->drm)) {
		dev_err(tbgpu_dev(tdev), "the device does not answer any more\n");
		drm_dev_wedged_event(&tdev->drm, DRM_WEDGE_RECOVERY_REBIND, NULL);
	}
}

/*
 * Function-level reset by the PCI core (sysfs "reset"). Jobs that are not done continue afterwards,
 * the running one with the command that was cut off.
 */
static void tbgpu_reset_prepare(struct pci_dev *pdev)
{
	struct tbgpu_device *tdev = pci_get_drvdata(pdev);

	mutex_lock(&tdev->reset_lock);
	for (unsigned int i = 0; i < tdev->num_engines; i++)
		tbgpu_sched_park(&tdev->engines[i], NULL);
	for (unsigned int i = 0; i < tdev->num_engines; i++)
		tbgpu_ring_halt(&tdev->engines[i], NULL, 0);
}

static void tbgpu_reset_done(struct pci_dev *pdev)
{
	struct tbgpu_device *tdev = pci_get_drvdata(pdev);

	pci_set_master(pdev);
	if (!tbgpu_device_gone(tdev))
		start_hardware(tdev);
	for (unsigned int i = 0; i < tdev->num_engines; i++)
		tbgpu_sched_unpark(&tdev->engines[i]);
	mutex_unlock(&tdev->reset_lock);
	dev_info(&pdev->dev, "function reset done\n");
}

const struct pci_error_handlers tbgpu_err_handlers = {
	.reset_prepare = tbgpu_reset_prepare,
	.reset_done = tbgpu_reset_done,
};
