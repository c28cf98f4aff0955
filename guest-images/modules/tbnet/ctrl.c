// SPDX-License-Identifier: GPL-2.0
/* The control queue: one command at a time, each with a time limit. */
#include <linux/jiffies.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "tbnet.h"

#define CTRL_TIMEOUT	(5 * HZ)
#define CTRL_PEEK	(HZ / 10)	/* the device may have lost the interrupt */
#define CTRL_BUF	SZ_4K
#define CTRL_ACK	SZ_2K		/* offset of what the device writes */
#define CTRL_HDR	sizeof(struct virtio_net_ctrl_hdr)

static const int ack_errnos[] = {
	[TBNET_ACK_UNKNOWN] = -EOPNOTSUPP,
	[TBNET_ACK_INVALID] = -EINVAL,
	[TBNET_ACK_NO_ENTRY] = -ENOENT,
	[TBNET_ACK_FULL] = -ENOSPC,
};

int tbnet_ctrl_init(struct tbnet *tn)
{
	mutex_init(&tn->ctrl.lock);
	init_completion(&tn->ctrl.done);
	tn->ctrl.buf = kmalloc(CTRL_BUF, GFP_KERNEL);
	return tn->ctrl.buf ? 0 : -ENOMEM;
}

void tbnet_ctrl_fini(struct tbnet *tn)
{
	kfree(tn->ctrl.buf);
}

void tbnet_ctrl_done(struct virtqueue *vq)
{
	struct tbnet *tn = vq->vdev->priv;

	complete(&tn->ctrl.done);
}

static bool ctrl_wait(struct tbnet *tn)
{
	unsigned long end = jiffies + CTRL_TIMEOUT;
	unsigned int len;

	do {
		if (virtqueue_get_buf(tn->ctrl.vq, &len))
			return true;
		if (tbnet_gone(tn))
			return false;
		wait_for_completion_timeout(&tn->ctrl.done, CTRL_PEEK);
	} while (time_before(jiffies, end));
	return virtqueue_get_buf(tn->ctrl.vq, &len);
}

static int ack_to_errno(u8 class, u8 ack)
{
	if (ack == VIRTIO_NET_OK)
		return 0;
	if (class < TBNET_CTRL_SPLIT)
		return -EINVAL;
	return ack < ARRAY_SIZE(ack_errnos) ? ack_errnos[ack] : -EIO;
}

static int ctrl_submit(struct tbnet *tn, size_t out_len, size_t in_len)
{
	struct scatterlist out, in, *sgs[] = { &out, &in };
	int ret;

	sg_init_one(&out, tn->ctrl.buf, out_len);
	sg_init_one(&in, tn->ctrl.buf + CTRL_ACK, in_len);
	reinit_completion(&tn->ctrl.done);
	ret = virtqueue_add_sgs(tn->ctrl.vq, sgs, 1, 1, tn->ctrl.buf, GFP_KERNEL);
	if (ret)
		return ret;
	virtqueue_kick(tn->ctrl.vq);
	if (ctrl_wait(tn))
		return 0;
	if (tbnet_gone(tn))
		return -ENODEV;
	tn->ctrl.stuck = true;
	return -ETIMEDOUT;
}

/*
 * Returns 0, -EOPNOTSUPP, -EINVAL, -ENOENT, -ENOSPC or -EIO as the device says, -ENODEV when it is
 * gone, -ETIMEDOUT when it does not answer, -EBUSY while it still has an earlier command.
 */
int tbnet_ctrl(struct tbnet *tn, u8 class, u8 command, const void *data, size_t len,
	       void *result, size_t result_len)
{
	struct virtio_net_ctrl_hdr hdr = { .class = class, .cmd = command };
	u8 *ack = tn->ctrl.buf + CTRL_ACK;
	unsigned int used;
	int ret;

	if (CTRL_HDR + len > CTRL_ACK || 1 + result_len > CTRL_BUF - CTRL_ACK)
		return -EMSGSIZE;
	guard(mutex)(&tn->ctrl.lock);
	if (tn->ctrl.stuck) {
		if (!virtqueue_get_buf(tn->ctrl.vq, &used))
			return tbnet_gone(tn) ? -ENODEV : -EBUSY;
		tn->ctrl.stuck = false;
	}
	memcpy(tn->ctrl.buf, &hdr, CTRL_HDR);
	memcpy(tn->ctrl.buf + CTRL_HDR, data, len);
	memset(ack, 0xff, 1 + result_len);
	ret = ctrl_submit(tn, CTRL_HDR + len, 1 + result_len);
	if (!ret)
		ret = ack_to_errno(class, *ack);
	if (!ret)
		memcpy(result, ack + 1, result_len);
	else
		dev_warn_ratelimited(&tn->vdev->dev, "command %#x.%u failed: %d\n", class, command,
				     ret);
	return ret;
}

int tbnet_ctrl_u8(struct tbnet *tn, u8 class, u8 command, u8 value)
{
	return tbnet_ctrl(tn, class, command, &value, sizeof(value), NULL, 0);
}
