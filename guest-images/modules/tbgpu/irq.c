// SPDX-License-Identifier: GPL-2.0
/* MSI-X: vector 0 for events and errors of the device, vector 1 + e for engine e. */
#include <linux/interrupt.h>
#include <linux/io.h>

#include "tbgpu.h"

static irqreturn_t event_irq(int irq, void *data)
{
	struct tbgpu_device *tdev = data;
	u32 status = readl(tdev->regs + TBGPU_REG_INTR_STATUS);
	u32 handled = TBGPU_INTR_EVENT;

	if (status == TBGPU_ALL_ONES)
		return IRQ_HANDLED;
	if (status & TBGPU_INTR_EVENT)
		atomic64_inc(&tdev->events);
	for (unsigned int i = 0; i < tdev->num_engines; i++) {
		if (!(status & TBGPU_INTR_ERROR(i)))
			continue;
		handled |= TBGPU_INTR_ERROR(i);
		queue_work(tdev->reset_wq, &tdev->engines[i].error_work);
	}
	writel(status & handled, tdev->regs + TBGPU_REG_INTR_STATUS);
	return IRQ_HANDLED;
}

/* Fences are in memory when the message comes: no register is read here. */
static irqreturn_t engine_irq(int irq, void *data)
{
	struct tbgpu_engine *engine = data;

	atomic64_inc(&engine->stats.irqs);
	if (!tbgpu_ring_collect(engine))
		atomic64_inc(&engine->stats.spurious);
	return IRQ_HANDLED;
}

int tbgpu_irq_init(struct tbgpu_device *tdev)
{
	struct pci_dev *pdev = tdev->pdev;
	unsigned int want = 1 + tdev->num_engines;
	int ret;

	ret = pci_alloc_irq_vectors(pdev, want, want, PCI_IRQ_MSIX);
	if (ret < 0)
		return dev_err_probe(&pdev->dev, ret, "%u MSI-X vectors\n", want);

	ret = request_irq(pci_irq_vector(pdev, 0), event_irq, 0, "tbgpu-event", tdev);
	if (ret)
		goto err_vectors;
	for (tdev->num_irqs = 0; tdev->num_irqs < tdev->num_engines; tdev->num_irqs++) {
		struct tbgpu_engine *engine = &tdev->engines[tdev->num_irqs];

		ret = request_irq(pci_irq_vector(pdev, 1 + tdev->num_irqs), engine_irq, 0,
				  engine->name, engine);
		if (ret) {
			tbgpu_irq_fini(tdev);
			return ret;
		}
	}
	return 0;

err_vectors:
	pci_free_irq_vectors(pdev);
	return ret;
}

/* After this no handler runs and no error work is left. */
void tbgpu_irq_fini(struct tbgpu_device *tdev)
{
	struct pci_dev *pdev = tdev->pdev;

	while (tdev->num_irqs) {
		int i = --tdev->num_irqs;

		free_irq(pci_irq_vector(pdev, 1 + i), &tdev->engines[i]);
	}
	free_irq(pci_irq_vector(pdev, 0), tdev);
	pci_free_irq_vectors(pdev);
	for (unsigned int i = 0; i < tdev->num_engines; i++)
		cancel_work_sync(&tdev->engines[i].error_work);
}
