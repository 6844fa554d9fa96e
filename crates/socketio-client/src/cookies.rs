//! Cookies of one session: a load balancer's word for the server that knows it.
//!
//! A session talks to one server at one path and is short, so of a cookie's attributes only those count that
//! say whether it is for us at all. Dates are not read; a cookie without a value and with a date is one that
//! is taken back.

/// Most cookies kept, and most bytes of one.
const MAX_COOKIES: usize = 32;
const MAX_LEN: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Cookies(Vec<(Box<str>, Box<str>)>);

impl Cookies {
    /// Takes the values of an answer's `Set-Cookie` headers. `path` is that of the request.
    pub(crate) fn take<'a>(&mut self, fields: impl Iterator<Item = &'a str>, path: &str, secure: bool) {
        for field in fields.filter(|field| field.len() <= MAX_LEN) {
            let mut parts = field.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            let unfit = |text: &str| text.bytes().any(|byte| byte < b' ' || byte == 0x7f);
            if name.is_empty() || unfit(name) || unfit(value) {
                continue;
            }
            let mut for_us = true;
            let mut gone = false;
            for attribute in parts {
                let (key, setting) = attribute.split_once('=').unwrap_or((attribute, ""));
                let setting = setting.trim();
                match key.trim().to_ascii_lowercase().as_str() {
                    "secure" => for_us &= secure,
                    "path" => for_us &= !setting.starts_with('/') || lies_below(path, setting),
                    "max-age" => gone |= setting.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
                    "expires" => gone |= value.is_empty(),
                    _ => {}
                }
            }
            if !for_us {
                continue;
            }
            self.0.retain(|(known, _)| **known != *name);
            if !gone && self.0.len() < MAX_COOKIES {
                self.0.push((name.into(), value.into()));
            }
        }
    }

    /// The caller's headers with the cookies among them.
    pub(crate) fn joined(&self, headers: &[(String, String)]) -> Vec<(String, String)> {
        let mut headers = headers.to_vec();
        if self.0.is_empty() {
            return headers;
        }
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let pairs = pairs.join("; ");
        match headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("cookie")) {
            Some((_, own)) if !own.is_empty() => {
                // The server's newer word for a name counts: many readers take the first of two.
                let is_kept = |pair: &&str| {
                    let name = pair.split('=').next().unwrap_or_default().trim();
                    !self.0.iter().any(|(known, _)| **known == *name)
                };
                let kept = own.split(';').map(str::trim).filter(is_kept).chain([pairs.as_str()]);
                *own = kept.collect::<Vec<_>>().join("; ");
            }
            Some((_, own)) => *own = pairs,
            None => headers.push(("Cookie".into(), pairs)),
        }
        headers
    }
}

/// RFC 6265 section 5.1.4.
fn lies_below(path: &str, folder: &str) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || folder.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_come_back_as_they_were_set() {
        let rows: [(&[&str], &str); 12] = [
            (&["AWSALB=abc==; Expires=Wed, 02 Dec 2026 10:00:00 GMT; Path=/"], "AWSALB=abc=="),
            (&["a=1; HttpOnly; SameSite=None", "b=\"two words\""], "a=1; b=\"two words\""),
            (&["a=1", "a=2"], "a=2"),
            (&["a=1", "a=1; Max-Age=0"], ""),
            (&["a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ""),
            (&["a=1; Secure"], ""),
            (&["a=1; Path=/socket.io"], "a=1"),
            (&["a=1; Path=/socket.io/"], "a=1"),
            (&["a=1; Path=/socket"], ""),
            (&["a=1; Path=/other"], ""),
            (&["=1", "nonsense", "", "a=x\ry"], ""),
            (&["a=", "b=2; Max-Age=60"], "a=; b=2"),
        ];
        for (set, expected) in rows {
            let mut cookies = Cookies::default();
            cookies.take(set.iter().copied(), "/socket.io/", false);
            let headers = cookies.joined(&[]);
            let sent = headers.first().map_or("", |(_, value)| value.as_str());
            assert_eq!(sent, expected, "{set:?}");
        }
    }

    #[test]
    fn the_callers_own_cookie_stays() {
        let mut cookies = Cookies::default();
        let own = [("X".to_owned(), "y".to_owned()), ("cookie".to_owned(), "mine=1".to_owned())];
        assert_eq!(cookies.joined(&own), own);
        cookies.take(["a=1"].into_iter(), "/", true);
        assert_eq!(cookies.joined(&own)[1].1, "mine=1; a=1");
        // Unless the server has said something newer by that name.
        let own = [("Cookie".to_owned(), "a=0; mine=1".to_owned())];
        assert_eq!(cookies.joined(&own)[0].1, "mine=1; a=1");
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let mut cookies = Cookies::default();
        for n in 0..1_000 {
            cookies.take([format!("c{n}=x").as_str()].into_iter(), "/", true);
        }
        cookies.take([format!("long={}", "x".repeat(MAX_LEN)).as_str()].into_iter(), "/", true);
        assert_eq!(cookies.0.len(), MAX_COOKIES);
    }
}
