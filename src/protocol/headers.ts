/** Names of the header fields that the Payment scheme uses. */

/** Carries challenges with 402. */
export const WWW_AUTHENTICATE = "WWW-Authenticate";

/** Carries the credential. */
export const AUTHORIZATION = "Authorization";

/** Carries the receipt of a paid answer (core draft, section "Payment-Receipt Header"). */
export const PAYMENT_RECEIPT = "Payment-Receipt";

/** Carries what a client can pay with (core draft, section "Client Payment Preferences"). */
export const ACCEPT_PAYMENT = "Accept-Payment";

/** Makes a retry of a paid request safe (core draft, section "Idempotency and Side Effects"). */
export const IDEMPOTENCY_KEY = "Idempotency-Key";

/** Says when a refused client may come back. */
export const RETRY_AFTER = "Retry-After";

/** `no-store` with 402, `private` with a receipt (core draft, section "Caching"). */
export const CACHE_CONTROL = "Cache-Control";
