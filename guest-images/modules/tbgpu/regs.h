/* SPDX-License-Identifier: GPL-2.0 */
/* Registers and ring entries of the testbed GPU, as docs/devices/gpu.md numbers them. */
#ifndef TBGPU_REGS_H
#define TBGPU_REGS_H

#include <linux/bits.h>
#include <linux/types.h>

#define TBGPU_VENDOR_ID			0x1234
#define TBGPU_DEVICE_ID			0x7b67

#define TBGPU_BAR_REGS			0
#define TBGPU_BAR_VRAM			2

#define TBGPU_REG_ID			0x000
#define   TBGPU_ID_VALUE		0x55504754
#define TBGPU_REG_VERSION		0x004
#define TBGPU_REG_ENGINES		0x00c
#define TBGPU_REG_VRAM_SIZE_LO		0x010
#define TBGPU_REG_VRAM_SIZE_HI		0x014
#define TBGPU_REG_STATUS		0x018
#define TBGPU_REG_CONTROL		0x01c
#define   TBGPU_CONTROL_ENABLE		BIT(0)
#define   TBGPU_CONTROL_RESET		BIT(1)
#define TBGPU_REG_INTR_STATUS		0x020
#define TBGPU_REG_INTR_ENABLE		0x024
#define   TBGPU_INTR_EVENT		BIT(0)
#define   TBGPU_INTR_DONE(e)		BIT(8 + (e))
#define   TBGPU_INTR_ERROR(e)		BIT(16 + (e))
#define TBGPU_REG_TIMESTAMP_LO		0x028
#define TBGPU_REG_TIMESTAMP_HI		0x02c
#define TBGPU_REG_FEATURES		0x030
#define TBGPU_REG_MAX_RING_LOG2		0x034
#define TBGPU_REG_MAX_TRANSFER		0x03c

#define TBGPU_ENGINE_BASE(e)		(0x1000 + 0x100 * (e))
#define TBGPU_ENG_TYPE			0x00
#define TBGPU_ENG_CTRL			0x04
#define   TBGPU_ENG_CTRL_RUN		BIT(0)
#define   TBGPU_ENG_CTRL_RESET		BIT(1)
#define TBGPU_ENG_STATUS		0x08
#define   TBGPU_ENG_STATUS_ERROR	BIT(2)
#define TBGPU_ENG_RING_LOG2		0x0c
#define TBGPU_ENG_RING_BASE_LO		0x10
#define TBGPU_ENG_RING_BASE_HI		0x14
#define TBGPU_ENG_HEAD			0x18
#define TBGPU_ENG_TAIL			0x1c
#define TBGPU_ENG_FENCE_ADDR_LO		0x20
#define TBGPU_ENG_FENCE_ADDR_HI		0x24
#define TBGPU_ENG_ERROR_CODE		0x30
#define TBGPU_ENG_ERROR_INDEX		0x34
#define TBGPU_ENG_ERROR_ADDR_LO		0x38
#define TBGPU_ENG_ERROR_ADDR_HI		0x3c

/* What every register reads when the device is not there. */
#define TBGPU_ALL_ONES			(~0u)

#define TBGPU_CMD_FENCE			BIT(0)
#define TBGPU_CMD_IRQ			BIT(1)
#define TBGPU_CMD_SRC(space)		((space) << 4)
#define TBGPU_CMD_DST(space)		((space) << 6)
#define TBGPU_CMD_SRC2(space)		((space) << 8)
#define TBGPU_CMD_SRC_COUNT(n)		((u64)(n))
#define TBGPU_CMD_DST_COUNT(n)		((u64)(n) << 16)

enum tbgpu_space {
	TBGPU_SPACE_VRAM = 0,
	TBGPU_SPACE_SYSTEM = 1,
	TBGPU_SPACE_LIST = 2,
};

/* One ring entry. */
struct tbgpu_cmd {
	__le16 opcode;
	__le16 flags;
	__le32 arg32;
	__le64 src;
	__le64 dst;
	__le64 size;
	__le64 arg0;
	__le64 arg1;
	__le64 arg2;
	__le64 seq;
};

/* One element of a scatter list. */
struct tbgpu_element {
	__le64 address;
	__le32 length;
	__le32 space;
};

#define TBGPU_MAX_ELEMENTS		4096
#define TBGPU_MAX_DELAY_NS		(60ull * NSEC_PER_SEC)

#endif
