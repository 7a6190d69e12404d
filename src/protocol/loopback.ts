const LOOPBACK = /^(localhost|(::ffff:)?127(\.\d{1,3}){3}|\[?::1\]?)$/i;

/**
 * Whether a host name or address is this very machine: there, and only there, payments may travel without TLS
 * (draft-httpauth-payment-00, Transport Security).
 *
 * @param host without a port; an IPv6 address with or without its brackets
 * @example
 * ```ts
 * isLoopback(new URL("http://127.0.0.1:8080/quote").hostname); // true
 * ```
 */
export function isLoopback(host: string): boolean {
	return LOOPBACK.test(host);
}
