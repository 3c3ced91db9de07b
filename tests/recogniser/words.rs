//! Word error: the fewest words put in, left out or changed, against the words that were said.

/// The words of a text as they are compared: lower case, without punctuation; round numerals as their
/// word, others digit by digit; spellings that sound alike and mean the same made one.
pub fn words(text: &str) -> Vec<String> {
    const DIGITS: [&str; 10] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let plain: String = text
        .chars()
        .filter(|c| *c != '\'' && *c != '’')
        .map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' })
        .collect();
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let mut words = Vec::new();
    for word in plain.split_whitespace() {
        if let [tens @ b'2'..=b'9', b'0'] = word.as_bytes() {
            words.push(TENS[usize::from(tens - b'2')].to_owned());
        } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
            words.extend(word.bytes().map(|byte| DIGITS[usize::from(byte - b'0')].to_owned()));
        } else {
            words.push(if word == "smokey" { "smoky" } else { word }.to_owned());
        }
    }
    words
}

/// How many words of `heard` are wrong against `said`, and how many were said.
pub fn errors(said: &str, heard: &str) -> (usize, usize) {
    let (said, heard) = (words(said), words(heard));
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, other) in heard.iter().enumerate() {
            let changed = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    (row[heard.len()], said.len())
}

#[test]
fn words_are_compared_as_they_sound() {
    assert_eq!(errors("one two three", "1, 2, 3."), (0, 3));
    assert_eq!(errors("four two", "42"), (0, 2));
    assert_eq!(errors("fifty bonds", "50 bonds"), (0, 2));
    assert_eq!(errors("It's easy", "its Easy!"), (0, 2));
    assert_eq!(errors("a b c d", "a c x d e"), (3, 4));
    assert_eq!(errors("a b", ""), (2, 2));
    assert_eq!(errors("", "a"), (1, 0));
}
