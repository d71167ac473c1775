//! The ten time registers of the real-time clock: calendar arithmetic and their two encodings.

/// A point in time as the clock's registers show it (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// 0–59.
    pub second: u8,
    /// 0–59.
    pub minute: u8,
    /// 0–23.
    pub hour: u8,
    /// 1 (Sunday) to 7.
    pub weekday: u8,
    /// 1–31.
    pub day: u8,
    /// 1–12.
    pub month: u8,
    /// With the century.
    pub year: u16,
}

/// How the registers hold numbers (register B, bits DM and 24/12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Plain binary instead of BCD.
    pub binary: bool,
    /// Hours 0–23 instead of 1–12 with the afternoon in bit 7.
    pub hours_24: bool,
}

impl Encoding {
    /// A number below 100 as the register holds it.
    pub fn encode(self, value: u8) -> u8 {
        if self.binary {
            value
        } else {
            value / 10 % 10 << 4 | value % 10
        }
    }

    /// What the guest meant by a register's content. Digits above 9 count for what they weigh.
    pub fn decode(self, value: u8) -> u8 {
        if self.binary {
            value
        } else {
            (value >> 4) * 10 + (value & 0x0F)
        }
    }

    /// The hour register for an hour of 0–23.
    pub fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let shown = match hour % 12 {
            0 => 12,
            other => other,
        };
        self.encode(shown) | if hour >= 12 { 0x80 } else { 0 }
    }

    /// The hour of 0–23 that an hour register's content means.
    pub fn decode_hour(self, value: u8) -> u8 {
        if self.hours_24 {
            return self.decode(value);
        }
        self.decode(value & 0x7F) % 12 + if value & 0x80 != 0 { 12 } else { 0 }
    }
}

/// The fields at `unix` seconds after 1970-01-01T00:00:00Z.
pub fn from_unix(unix: i64) -> Fields {
    let days = unix.div_euclid(86_400);
    let second_of_day = unix.rem_euclid(86_400);
    // Years that begin in March put the leap day last; eras of 400 years are all equally long.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Fields {
        second: (second_of_day % 60) as u8,
        minute: (second_of_day / 60 % 60) as u8,
        hour: (second_of_day / 3600) as u8,
        // 1970-01-01 was a Thursday.
        weekday: ((days + 4).rem_euclid(7) + 1) as u8,
        day: day as u8,
        month: month as u8,
        year: year.clamp(0, 9999) as u16,
    }
}

/// Seconds after 1970-01-01T00:00:00Z of `fields`; the weekday is not looked at.
pub fn to_unix(fields: &Fields) -> i64 {
    let month = i64::from(fields.month.clamp(1, 12));
    let year = i64::from(fields.year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + i64::from(fields.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    days * 86_400 + i64::from(fields.hour) * 3600 + i64::from(fields.minute) * 60 + i64::from(fields.second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let epoch = from_unix(0);
        assert_eq!((epoch.year, epoch.month, epoch.day), (1970, 1, 1));
        assert_eq!(epoch.weekday, 5);
        let leap = from_unix(951_782_399);
        assert_eq!((leap.year, leap.month, leap.day), (2000, 2, 28));
        assert_eq!((leap.hour, leap.minute, leap.second), (23, 59, 59));
        let next = from_unix(951_782_400);
        assert_eq!((next.month, next.day), (2, 29));
        let far = from_unix(1_795_190_400);
        assert_eq!((far.year, far.month, far.day), (2026, 11, 20));
        assert_eq!(far.weekday, 6, "a Friday");
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in -36_525..110_000i64 {
            let unix = day * 86_400 + 45_296;
            assert_eq!(to_unix(&from_unix(unix)), unix);
        }
    }

    #[test]
    fn encodings_come_back() {
        for binary in [false, true] {
            for hours_24 in [false, true] {
                let encoding = Encoding { binary, hours_24 };
                for value in 0..100 {
                    assert_eq!(encoding.decode(encoding.encode(value)), value);
                }
                for hour in 0..24 {
                    assert_eq!(encoding.decode_hour(encoding.encode_hour(hour)), hour);
                }
            }
        }
    }

    #[test]
    fn noon_and_midnight_on_a_twelve_hour_clock() {
        let encoding = Encoding { binary: false, hours_24: false };
        assert_eq!(encoding.encode_hour(0), 0x12);
        assert_eq!(encoding.encode_hour(12), 0x92);
        assert_eq!(encoding.encode_hour(23), 0x91);
    }
}
