//! Whose ringing tone a caller hears while waiting (ITU-T E.180 Supplement 2).

/// A country of which the ringing tone is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingCountry {
    /// ISO 3166 two-letter code, in lower case.
    pub code: &'static str,
    /// One or two tones, in hertz; the second is 0 when there is one.
    pub tones_hz: [u16; 2],
    /// On and off times in milliseconds, repeated; unused tail entries are 0.
    pub on_off_ms: [u16; 4],
}

/// One row of the table below.
const fn ring(code: &'static str, tones_hz: [u16; 2], on_off_ms: [u16; 4]) -> RingCountry {
    RingCountry { code, tones_hz, on_off_ms }
}

impl RingCountry {
    /// Every country known, in the order the help shows them. The first is the default.
    pub const ALL: [RingCountry; 17] = [
        ring("us", [440, 480], [2000, 4000, 0, 0]),
        ring("ca", [440, 480], [2000, 4000, 0, 0]),
        ring("gb", [400, 450], [400, 200, 400, 2000]),
        ring("au", [413, 438], [400, 200, 400, 2000]),
        ring("de", [425, 0], [1000, 4000, 0, 0]),
        ring("at", [420, 0], [1000, 5000, 0, 0]),
        ring("ch", [425, 0], [1000, 4000, 0, 0]),
        ring("fr", [440, 0], [1500, 3500, 0, 0]),
        ring("es", [425, 0], [1500, 3000, 0, 0]),
        ring("it", [425, 0], [1000, 4000, 0, 0]),
        ring("nl", [425, 0], [1000, 4000, 0, 0]),
        ring("se", [425, 0], [1000, 5000, 0, 0]),
        ring("pl", [425, 0], [1000, 4000, 0, 0]),
        ring("br", [425, 0], [1000, 4000, 0, 0]),
        ring("cn", [450, 0], [1000, 4000, 0, 0]),
        ring("jp", [400, 0], [1000, 2000, 0, 0]),
        ring("kr", [440, 480], [1000, 2000, 0, 0]),
    ];

    /// The country of this two-letter code, in either case.
    pub fn from_code(code: &str) -> Option<RingCountry> {
        Self::ALL.into_iter().find(|country| country.code.eq_ignore_ascii_case(code))
    }
}

impl Default for RingCountry {
    fn default() -> Self {
        Self::ALL[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cadence_rings_and_rests() {
        for country in RingCountry::ALL {
            assert!(country.tones_hz[0] > 0, "{}", country.code);
            assert!(country.on_off_ms[0] > 0 && country.on_off_ms[1] > 0, "{}", country.code);
            assert_eq!(RingCountry::from_code(&country.code.to_uppercase()), Some(country));
        }
        assert_eq!(RingCountry::from_code("xx"), None);
    }
}
