//! Tokens: their signature, their user, and their expiry.
//!
//! Each kind of key has one algorithm, the one of the contract. So a token cannot choose how it is
//! verified: neither `none` nor a public key as an HMAC secret gives access.

use std::{collections::HashSet, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    errors::{Error, ErrorKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    contract::Refusal,
    model::{Id, Time},
};

/// The allowed difference between the clocks of the server and the backend.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The text for a token that was valid before.
pub const EXPIRED: &str = "The token has run out.";

/// A shorter secret can be guessed: HS256 wants as many bytes as its hash has (RFC 7518, 3.2).
const GOOD_SECRET_BYTES: usize = 32;

/// The key and the rules that tokens are verified with.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
    /// The key to sign with, if it is a secret.
    secret: Option<EncodingKey>,
    has_short_secret: bool,
}

/// The claims of a valid token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    pub user: Id,
    /// The time at which the token expires, the leeway included. `None` if it never does.
    pub expires: Option<Time>,
}

/// The claims that are read. Others are ignored.
#[derive(Deserialize)]
struct RawClaims {
    sub: Option<UserClaim>,
    id: Option<UserClaim>,
    #[serde(rename = "userId")]
    user_id: Option<UserClaim>,
    exp: Option<serde_json::Number>,
}

/// A user's id in a token. Backends with numbered users write a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum UserClaim {
    Text(String),
    Number(i64),
}

impl Tokens {
    /// Accepts tokens that are signed with a shared secret, by HS256.
    pub fn signed_with(secret: &str) -> Result<Self, &'static str> {
        if secret.contains("-----BEGIN") {
            return Err("this is a PEM key: set JWT_PUBLIC_KEY to the public one");
        }
        let key = DecodingKey::from_secret(secret.as_bytes());
        let encoding = EncodingKey::from_secret(secret.as_bytes());
        let has_short_secret = secret.len() < GOOD_SECRET_BYTES;
        Ok(Self { secret: Some(encoding), has_short_secret, ..Self::new(key, Algorithm::HS256) })
    }

    /// Accepts tokens that are signed with the private key of this public one: RS256, ES256 or
    /// EdDSA, as the key is.
    pub fn verified_with(pem: &str) -> Result<Self, &'static str> {
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key: the server needs the public one only");
        }
        // In the forms of many platforms, variables cannot hold line ends.
        let pem = pem.replace("\\n", "\n");
        let pem = pem.as_bytes();
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(Self::new(key, Algorithm::RS256));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(key, Algorithm::EdDSA));
        }
        match DecodingKey::from_ec_pem(pem) {
            // A point of P-256, uncompressed.
            Ok(key) if key.try_get_as_bytes().is_ok_and(|point| point.len() == 65) => {
                Ok(Self::new(key, Algorithm::ES256))
            }
            _ => Err("this is not a public key in PEM form, of RSA, P-256 or Ed25519"),
        }
    }

    fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.required_spec_claims = HashSet::new();
        Self { key, validation, secret: None, has_short_secret: false }
    }

    /// Accepts only tokens of `issuer`.
    pub fn of(mut self, issuer: Option<&str>) -> Self {
        if let Some(issuer) = issuer {
            self.validation.set_issuer(&[issuer]);
            self.validation.required_spec_claims.insert("iss".into());
        }
        self
    }

    /// Accepts only tokens for `audience`.
    pub fn meant_for(mut self, audience: Option<&str>) -> Self {
        if let Some(audience) = audience {
            self.validation.set_audience(&[audience]);
            self.validation.validate_aud = true;
            self.validation.required_spec_claims.insert("aud".into());
        }
        self
    }

    /// Whether the secret is so short that it can be guessed.
    pub fn has_short_secret(&self) -> bool {
        self.has_short_secret
    }

    /// Checks the signature and the claims.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let claims = jsonwebtoken::decode::<RawClaims>(token, &self.key, &self.validation)
            .map_err(|error| Refusal::InvalidToken(describe(&error)))?
            .claims;
        let user = claims.sub.or(claims.id).or(claims.user_id);
        let user = match user {
            Some(UserClaim::Text(id)) => id,
            Some(UserClaim::Number(number)) => number.to_string(),
            None => return Err(Refusal::InvalidToken("The token names no user.")),
        };
        let user =
            user.parse().map_err(|_| Refusal::InvalidToken("The token names no possible user."))?;
        let expires = claims.exp.and_then(|exp| exp.as_f64()).map(|seconds| {
            // The token was verified in whole seconds, the last one included. A number that is too
            // large becomes the greatest one.
            Time(((seconds.round() + LEEWAY.as_secs_f64() + 1.0) * 1_000.0) as i64)
        });
        Ok(Claims { user, expires })
    }

    /// A token for `user` that is valid for `lasts`. `None` if the key cannot sign.
    pub fn sign(&self, user: &Id, lasts: Duration) -> Option<String> {
        #[derive(Serialize)]
        struct Signed<'a> {
            sub: &'a Id,
            iat: u64,
            exp: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            iss: Option<&'a String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            aud: Option<&'a String>,
        }

        let iat = jsonwebtoken::get_current_timestamp();
        let only = |names: &'_ Option<HashSet<String>>| names.as_ref()?.iter().next().cloned();
        let (iss, aud) = (only(&self.validation.iss), only(&self.validation.aud));
        let exp = iat.saturating_add(lasts.as_secs());
        let claims = Signed { sub: user, iat, exp, iss: iss.as_ref(), aud: aud.as_ref() };
        jsonwebtoken::encode(&Header::default(), &claims, self.secret.as_ref()?).ok()
    }
}

/// The text for a client, without details that would help a forger.
fn describe(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => "The token is not valid yet.",
        ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => {
            "The token is not meant for this server."
        }
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" || claim == "iss" => {
            "The token is not meant for this server."
        }
        _ => "The token is not valid.",
    }
}
