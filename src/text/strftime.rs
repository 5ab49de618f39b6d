//! Dates for chat templates (`strftime_now`), in coordinated universal time.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Formats the current time as Python's `strftime` does; see [`format_time`].
pub(super) fn format_now(format: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    format_time(format, now)
}

/// Formats a time in seconds since 1970. Knows the directives of `strftime` for dates and times; an unknown one is
/// kept as it stands.
fn format_time(format: &str, seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let weekday = ((days + 3) % 7) as usize;
    let january_first = days - day_of_year(days);
    let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    let twelve = (hour + 11) % 12 + 1;
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let month_name = MONTHS[(month - 1) as usize];
        let written = match rest.next() {
            Some('Y') => write!(text, "{year}"),
            Some('y') => write!(text, "{:02}", year % 100),
            Some('m') => write!(text, "{month:02}"),
            Some('d') => write!(text, "{day:02}"),
            Some('e') => write!(text, "{day:2}"),
            Some('B') => write!(text, "{month_name}"),
            Some('b' | 'h') => write!(text, "{}", &month_name[..3]),
            Some('A') => write!(text, "{}", DAYS[weekday]),
            Some('a') => write!(text, "{}", &DAYS[weekday][..3]),
            Some('w') => write!(text, "{}", (weekday + 1) % 7),
            Some('j') => write!(text, "{:03}", days - january_first + 1),
            Some('H') => write!(text, "{hour:02}"),
            Some('I') => write!(text, "{twelve:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('p') => write!(text, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('Z') => write!(text, "UTC"),
            Some('z') => write!(text, "+0000"),
            Some('F') => write!(text, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            Some('-') => match rest.next() {
                Some('d') => write!(text, "{day}"),
                Some('m') => write!(text, "{month}"),
                Some('H') => write!(text, "{hour}"),
                Some('I') => write!(text, "{twelve}"),
                other => write!(text, "%-{}", other.map_or(String::new(), String::from)),
            },
            Some('%') => write!(text, "%"),
            other => write!(text, "%{}", other.map_or(String::new(), String::from)),
        };
        written.expect("writing to a string does not fail");
    }
    text
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the Gregorian calendar.
/// Years are counted from March, so that the leap day comes last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Days since the first of January of the same year.
fn day_of_year(days: u64) -> u64 {
    let year = civil_date(days).0;
    (0..366).take_while(|back| days >= *back && civil_date(days - back).0 == year).count() as u64 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_python_does() {
        let format = "%Y-%m-%d %H:%M:%S %A %a %B %b %j %y %I %p %-d %% %Q %w";
        let want = "2024-02-29 13:05:09 Thursday Thu February Feb 060 24 01 PM 29 % %Q 4";
        assert_eq!(format_time(format, 1_709_211_909), want);
        assert_eq!(format_time("%d %b %Y %j", 0), "01 Jan 1970 001");
        assert_eq!(format_time("%F %T", 4_102_444_799), "2099-12-31 23:59:59");
    }
}
