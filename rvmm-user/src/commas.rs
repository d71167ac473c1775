//! Lists as QEMU's options have them: separated by commas, with a comma of an item written twice.

/// Splits at single commas; double ones become one.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' && letters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_items_with_commas() {
        assert_eq!(split("a b c,d"), ["a b c", "d"]);
        assert_eq!(split("a,,b x,,y,c"), ["a,b x,y", "c"]);
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split(""), [""]);
    }
}
