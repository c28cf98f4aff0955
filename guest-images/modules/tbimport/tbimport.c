// SPDX-License-Identifier: GPL-2.0
/*
 * A static dma-buf importer with nothing behind it: what NIC zero-copy does with a buffer, without
 * the NIC. uapi/tbimport.h lists the calls and their errnos.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tbimport.h"

struct importer {
	struct mutex lock;		/* all below */
	struct device *dev;		/* with a reference */
	struct dma_buf *dmabuf;		/* NULL: nothing attached */
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
};

static struct platform_device *own_device;

static struct device *find_device(const char *name)
{
	unsigned int domain, bus, slot, fn;
	struct pci_dev *pdev;
	char end;

	if (!*name)
		return get_device(&own_device->dev);
	if (sscanf(name, "%x:%x:%x.%x%c", &domain, &bus, &slot, &fn, &end) != 4 ||
	    bus > 0xff || slot > 0x1f || fn > 7)
		return ERR_PTR(-EINVAL);
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, fn));
	return pdev ? &pdev->dev : ERR_PTR(-ENODEV);
}

/* The caller holds imp->lock. */
static void detach(struct importer *imp)
{
	if (!imp->dmabuf)
		return;
	dma_buf_unmap_attachment_unlocked(imp->attach, imp->sgt, DMA_BIDIRECTIONAL);
	dma_buf_detach(imp->dmabuf, imp->attach);
	dma_buf_put(imp->dmabuf);
	put_device(imp->dev);
	imp->dmabuf = NULL;
}

static int attach(struct importer *imp, int fd, const char *device)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);
	struct dma_buf_attachment *attachment;
	struct sg_table *sgt;
	struct device *dev;
	int ret;

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	dev = find_device(device);
	if (IS_ERR(dev)) {
		ret = PTR_ERR(dev);
		goto err_put;
	}
	attachment = dma_buf_attach(dmabuf, dev);
	if (IS_ERR(attachment)) {
		ret = PTR_ERR(attachment);
		goto err_dev;
	}
	sgt = dma_buf_map_attachment_unlocked(attachment, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
		goto err_detach;
	}
	imp->dmabuf = dmabuf;
	imp->dev = dev;
	imp->attach = attachment;
	imp->sgt = sgt;
	return 0;

err_detach:
	dma_buf_detach(dmabuf, attachment);
err_dev:
	put_device(dev);
err_put:
	dma_buf_put(dmabuf);
	return ret;
}

static int report_segments(struct importer *imp, struct tbimport_attach *args)
{
	struct tbimport_segment __user *to = u64_to_user_ptr(args->segments);
	struct scatterlist *sg;
	unsigned int i;

	args->size = imp->dmabuf->size;
	args->segment_count = imp->sgt->nents;
	args->mapped = 0;
	for_each_sgtable_dma_sg(imp->sgt, sg, i) {
		struct tbimport_segment segment = {
			.address = sg_dma_address(sg),
			.length = sg_dma_len(sg),
		};

		args->mapped += segment.length;
		if (i < args->segment_space && copy_to_user(&to[i], &segment, sizeof(segment)))
			return -EFAULT;
	}
	return 0;
}

static long attach_ioctl(struct importer *imp, struct tbimport_attach __user *user)
{
	struct tbimport_attach args;
	int ret;

	if (copy_from_user(&args, user, sizeof(args)))
		return -EFAULT;
	if (args.flags || args.segment_space > TBIMPORT_MAX_SEGMENTS ||
	    strnlen(args.device, sizeof(args.device)) == sizeof(args.device))
		return -EINVAL;
	if (imp->dmabuf)
		return -EBUSY;
	ret = attach(imp, args.fd, args.device);
	if (ret)
		return ret;
	ret = report_segments(imp, &args);
	if (!ret && copy_to_user(user, &args, sizeof(args)))
		ret = -EFAULT;
	if (ret)
		detach(imp);
	return ret;
}

static int read_out(struct dma_buf *dmabuf, void *data, u64 offset, u64 length)
{
	struct iosys_map map;
	int ret = dma_buf_begin_cpu_access(dmabuf, DMA_FROM_DEVICE);

	if (ret)
		return ret;
	ret = dma_buf_vmap_unlocked(dmabuf, &map);
	if (!ret) {
		iosys_map_memcpy_from(data, &map, offset, length);
		dma_buf_vunmap_unlocked(dmabuf, &map);
	}
	dma_buf_end_cpu_access(dmabuf, DMA_FROM_DEVICE);
	return ret;
}

static long read_ioctl(struct importer *imp, struct tbimport_read __user *user)
{
	struct tbimport_read args;
	void *data;
	u64 end;
	long ret;

	if (copy_from_user(&args, user, sizeof(args)))
		return -EFAULT;
	if (!imp->dmabuf)
		return -ENOTCONN;
	if (args.length > SZ_16M || check_add_overflow(args.offset, args.length, &end) ||
	    end > imp->dmabuf->size)
		return -EINVAL;
	if (!args.length)
		return 0;
	data = kvmalloc(args.length, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	ret = read_out(imp->dmabuf, data, args.offset, args.length);
	if (!ret && copy_to_user(u64_to_user_ptr(args.data), data, args.length))
		ret = -EFAULT;
	kvfree(data);
	return ret;
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *imp = file->private_data;
	void __user *user = (void __user *)arg;

	guard(mutex)(&imp->lock);
	switch (cmd) {
	case TBIMPORT_IOC_ATTACH:
		return attach_ioctl(imp, user);
	case TBIMPORT_IOC_READ:
		return read_ioctl(imp, user);
	case TBIMPORT_IOC_DETACH:
		if (!imp->dmabuf)
			return -ENOTCONN;
		detach(imp);
		return 0;
	default:
		return -ENOTTY;
	}
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *imp = kzalloc(sizeof(*imp), GFP_KERNEL);

	if (!imp)
		return -ENOMEM;
	mutex_init(&imp->lock);
	file->private_data = imp;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *imp = file->private_data;

	detach(imp);
	kfree(imp);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tbimport",
	.fops = &importer_fops,
	.mode = 0600,
};

static int __init tbimport_init(void)
{
	int ret;

	own_device = platform_device_register_simple("tbimport", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(own_device))
		return PTR_ERR(own_device);
	ret = dma_coerce_mask_and_coherent(&own_device->dev, DMA_BIT_MASK(64));
	if (!ret)
		ret = misc_register(&importer_misc);
	if (ret)
		platform_device_unregister(own_device);
	return ret;
}
module_init(tbimport_init);

static void __exit tbimport_exit(void)
{
	misc_deregister(&importer_misc);
	platform_device_unregister(own_device);
}
module_exit(tbimport_exit);

MODULE_DESCRIPTION("static dma-buf importer for tests");
MODULE_AUTHOR("testbed");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
