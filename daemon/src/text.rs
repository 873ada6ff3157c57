//! Values for eyes: amounts, times, short ids.

/// A number with a comma every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Satoshi.
pub fn sat(amount_sat: u64) -> String {
    format!("{} sat", grouped(amount_sat))
}

/// Millisatoshi shown as satoshi, with three decimals when they matter.
pub fn msat(amount_msat: u64) -> String {
    let whole = grouped(amount_msat / 1_000);
    match amount_msat % 1_000 {
        0 => format!("{whole} sat"),
        rest => format!("{whole}.{rest:03} sat"),
    }
}

/// Millisatoshi as satoshi for a column, the unit in its title: always with decimals, so that they line up.
pub fn msat_cell(amount_msat: u64) -> String {
    format!("{}.{:03}", grouped(amount_msat / 1_000), amount_msat % 1_000)
}

/// Milliseconds since 1970 as date and time of day, UTC. Empty for 0, which means "not yet".
pub fn when(time_ms: u64) -> String {
    if time_ms == 0 {
        return String::new();
    }
    let seconds = time_ms / 1_000;
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day ends a year;
/// 400 years have 146,097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The first digits of an id, enough to tell one node's apart and to name it in a command.
pub fn short(id: &[u8]) -> String {
    hex::encode(&id[..id.len().min(6)])
}

/// One line without control characters: texts of others must not move the terminal's cursor.
pub fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_grouped_and_show_millisatoshi_only_when_there_are_some() {
        assert_eq!(sat(0), "0 sat");
        assert_eq!(sat(1_234_567), "1,234,567 sat");
        assert_eq!(msat(100_000), "100 sat");
        assert_eq!(msat(1_234_005), "1,234.005 sat");
        assert_eq!(msat(1), "0.001 sat");
        assert_eq!(msat_cell(1_000_000), "1,000.000");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn times_are_dates_of_the_gregorian_calendar() {
        for (seconds, expected) in [
            (1, "1970-01-01 00:00:01"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(when(seconds * 1_000), expected);
        }
        assert_eq!(when(0), "");
    }

    #[test]
    fn texts_of_others_cannot_move_the_cursor() {
        assert_eq!(plain("tea\u{1b}[2J\nand more"), "tea [2J and more");
    }

    #[test]
    fn an_id_is_shortened_to_six_bytes_at_most() {
        assert_eq!(short(&[0xab; 32]), "abababababab");
        assert_eq!(short(&[1]), "01");
    }
}
