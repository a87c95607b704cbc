//! The dates between which certificates are valid, and how they are shown.
//!
//! TLS reports seconds since 1970, or only an alert. An operator who has to act needs the date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_types::WallMillis;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};

use crate::tls::certificate_error::{CertificateError, PemRole};

/// The times at which a certificate is valid, both ends included, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first.
    pub not_before: WallMillis,
    /// The last.
    pub not_after: WallMillis,
}

impl Validity {
    /// Checks that the certificate is valid at `now`.
    ///
    /// # Errors
    /// [`CertificateError::Expired`] or [`CertificateError::NotYetValid`], which names `role`.
    pub(crate) fn check(self, role: PemRole, now: WallMillis) -> Result<(), CertificateError> {
        if now > self.not_after {
            return Err(CertificateError::Expired { role, not_after: self.not_after, now });
        }
        if now < self.not_before {
            return Err(CertificateError::NotYetValid { role, not_before: self.not_before, now });
        }
        Ok(())
    }

    /// The dates of `certificate`. The library shows them only in the error of a verification at
    /// another time, and it checks the time first.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Validity, webpki::Error> {
        let certificate = EndEntityCert::try_from(certificate)?;
        let verify_at = |seconds| {
            let verified = certificate.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[],
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                KeyUsage::client_auth(),
                None,
                None,
            );
            verified.err()
        };
        let not_after = match verify_at(u64::MAX) {
            Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
            Some(error) => return Err(error),
            None => u64::MAX,
        };
        let not_before = match verify_at(0) {
            Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
            // The certificate was valid in 1970 already.
            _ => 0,
        };
        let millis = |seconds: u64| WallMillis(seconds.saturating_mul(1_000));
        Ok(Validity { not_before: millis(not_before), not_after: millis(not_after) })
    }

    /// From `now`, and a bit before it, for `lifetime`.
    #[must_use]
    pub fn from_now(now: WallMillis, backdated: Duration, lifetime: Duration) -> Validity {
        // Certificates have no fractions of a second.
        let now_s = now.0 / 1_000;
        let millis = |seconds: u64| WallMillis(seconds.saturating_mul(1_000));
        Validity {
            not_before: millis(now_s.saturating_sub(backdated.as_secs())),
            not_after: millis(now_s.saturating_add(lifetime.as_secs())),
        }
    }

    /// The two dates in the type of the library that makes certificates.
    pub(crate) fn dates(self) -> Result<(OffsetDateTime, OffsetDateTime), CertificateError> {
        let date = |at| {
            date_of(at).ok_or_else(|| CertificateError::Generate {
                detail: format!("no certificate can name the time {} ms after 1970", at.0),
            })
        };
        Ok((date(self.not_before)?, date(self.not_after)?))
    }
}

/// The system's time.
pub(crate) fn now() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn date_of(at: WallMillis) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(at.0 / 1_000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// A time as people write it: `2026-11-28 08:58:38 UTC`.
#[must_use]
pub fn utc(at: WallMillis) -> String {
    match date_of(at) {
        Some(date) => {
            let (hour, minute, second) = date.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02} UTC", date.date())
        }
        None => format!("{} ms after 1970", at.0),
    }
}

/// Whose certificate the end of a TLS handshake is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This node refused the peer's.
    Peers,
    /// The peer refused this node's.
    Own,
}

/// What `reason`, the TLS library's text on either side, says about dates, in plain words; `None`
/// if it is about something else.
pub(crate) fn dates_in_words(reason: &str, whose: Whose) -> Option<String> {
    let number_behind = |words: &str| {
        let (_, rest) = reason.split_once(words)?;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        Some(WallMillis(digits.parse::<u64>().ok()?.saturating_mul(1_000)))
    };
    let (whom, there, remedy) = match whose {
        Whose::Peers => ("the peer's certificate", "by this node's clock", "renew the peer's"),
        Whose::Own => ("this node's certificate", "by the peer's clock", "renew it"),
    };
    let now = utc(number_behind("verification time ")?);
    let remedy = format!("{remedy} with `quorate cert node --renew`");
    if let Some(end) = number_behind("not valid after ") {
        return Some(format!("{whom} expired on {}, it is {now} {there}: {remedy}", utc(end)));
    }
    let begin = utc(number_behind("not valid before ")?);
    Some(format!("{whom} counts from {begin} on, it is {now} {there}: set that clock, or {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// Goal: the library's texts are understood, for as long as it writes them so. Method: its own
    /// errors.
    #[test]
    fn the_texts_of_tls_are_understood() {
        let expired = rustls::CertificateError::ExpiredContext {
            time: at(1_795_856_318),
            not_after: at(1_580_515_200),
        };
        let told = dates_in_words(&expired.to_string(), Whose::Peers).expect("understood");
        assert!(
            told.starts_with("the peer's certificate expired on 2020-02-01 00:00:00 UTC"),
            "{told}"
        );
        assert!(told.contains("it is 2026-11-28 08:58:38 UTC by this node's clock"), "{told}");
        let early = rustls::CertificateError::NotValidYetContext {
            time: at(1_580_515_200),
            not_before: at(1_795_856_318),
        };
        let told = dates_in_words(&early.to_string(), Whose::Own).expect("understood");
        assert!(told.starts_with("this node's certificate counts from 2026-11-28"), "{told}");
        assert!(told.contains("set that clock"), "{told}");
        let other = rustls::CertificateError::UnknownIssuer.to_string();
        assert_eq!(dates_in_words(&other, Whose::Own), None);
    }

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(utc(WallMillis(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(WallMillis(951_782_399_999)), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(WallMillis(951_868_800_000)), "2000-03-01 00:00:00 UTC");
        assert_eq!(utc(WallMillis(u64::MAX)), format!("{} ms after 1970", u64::MAX));
    }
}
