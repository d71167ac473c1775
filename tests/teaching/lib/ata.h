/* Disks by programmed input and output, LBA28. DRIVE is 0 to 3: primary master, primary slave, secondary master and slave. */
#pragma once
#include "io.h"

struct identity { u32 sectors; int dma, lba; };

/* Each returns 0, or -1 without a drive, or the drive's error register with bit 8 set. With "ata_irqs" not null the drive's interrupts are
 * waited for (that counter is to be counted up by their handler), else its status is polled. */
int ata_identify(int drive, struct identity *identity);
int ata_read(int drive, u32 lba, u32 count, void *to);
int ata_write(int drive, u32 lba, u32 count, const void *from);
int ata_flush(int drive);
extern volatile u32 *ata_irqs;
