//! What interrupt controllers tell local APICs: the messages of the APIC bus (Intel SDM volume 3, sections 11.6 and 11.11; 82093AA data
//! sheet 290566, section 3.2.4).

/// How an interrupt is delivered. In the interrupt command register, the local vector table and the redirection table the codes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// With its vector.
    Fixed,
    /// With its vector, to the one of its destinations that does what is least urgent.
    LowestPriority,
    Smi,
    Nmi,
    Init,
    /// Start-up: of a CPU that waits for it.
    StartUp,
    /// With the vector that the 8259s have.
    External,
    /// A code that means nothing.
    Reserved,
}

impl Delivery {
    /// The delivery mode in bits 8–10 of a register.
    pub fn of(register: u32) -> Delivery {
        match register >> 8 & 7 {
            0 => Delivery::Fixed,
            1 => Delivery::LowestPriority,
            2 => Delivery::Smi,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            6 => Delivery::StartUp,
            7 => Delivery::External,
            _ => Delivery::Reserved,
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The local APIC with this ID; FF is all.
    Physical(u8),
    /// Those whose logical destination register matches; FF is all.
    Logical(u8),
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub to: Destination,
    pub delivery: Delivery,
    pub vector: u8,
    /// Level-triggered: its end is to be told to the I/O APIC.
    pub level: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivery_mode_is_in_bits_8_to_10() {
        let modes = [0x0FF, 0x1FF, 0x2FF, 0x3FF, 0x4FF, 0x5FF, 0x6FF, 0x7FF].map(Delivery::of);
        use Delivery::*;
        assert_eq!(modes, [Fixed, LowestPriority, Smi, Reserved, Nmi, Init, StartUp, External]);
        assert_eq!(Delivery::of(0xFFFF_F8FF), Fixed);
    }
}
