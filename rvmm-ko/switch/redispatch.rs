// SPDX-License-Identifier: GPL-2.0
//! Hands an interrupt that ended the guest world's run to the host, through the host's own IDT.
//!
//! The interrupt controller has already been acknowledged, so the vector must reach its handler on this CPU. STI holds interrupts
//! back for one instruction, so `sti; int n` cannot be split by a migration. The handler must see IF=1 in its frame: with IF=0 the
//! timer's would not re-arm itself.

use core::arch::asm;

macro_rules! software_interrupt {
    ($vector:expr; $($n:literal)+) => {
        match $vector {
            $($n => {
                // SAFETY: interrupts are off and the host's world is complete; the handler preserves all registers. The vector was
                // raised by hardware for this CPU. May schedule: nothing of the caller is tied to the CPU.
                unsafe { asm!("sti", concat!("int ", $n)) }
            })+
            _ => {}
        }
    };
}

/// Delivers a device or inter-processor interrupt (32 to 255) to the host and leaves interrupts on. For other vectors it does
/// nothing at all.
pub(super) fn interrupt(vector: u8) {
    software_interrupt!(vector;
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
        48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79
        80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95
        96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111
        112 113 114 115 116 117 118 119 120 121 122 123 124 125 126 127
        128 129 130 131 132 133 134 135 136 137 138 139 140 141 142 143
        144 145 146 147 148 149 150 151 152 153 154 155 156 157 158 159
        160 161 162 163 164 165 166 167 168 169 170 171 172 173 174 175
        176 177 178 179 180 181 182 183 184 185 186 187 188 189 190 191
        192 193 194 195 196 197 198 199 200 201 202 203 204 205 206 207
        208 209 210 211 212 213 214 215 216 217 218 219 220 221 222 223
        224 225 226 227 228 229 230 231 232 233 234 235 236 237 238 239
        240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255
    );
}

/// Delivers an NMI. NMIs have been blocked since it arrived and are until the handler's IRETQ.
pub(super) fn nmi() {
    // SAFETY: interrupts are off and the host's world is complete; the gate switches to the host's NMI stack by itself.
    unsafe { asm!("int 2") }
}

/// Delivers a machine check.
pub(super) fn machine_check() {
    // SAFETY: as for the NMI.
    unsafe { asm!("int 18") }
}
