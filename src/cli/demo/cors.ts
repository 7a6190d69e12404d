import type { FastifyInstance } from "fastify";

/** What a paying page sends besides what every page may send. */
const ALLOWED = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Accept-Payment"];

/** What it has to read besides what every page may read. */
const EXPOSED = ["WWW-Authenticate", "Payment-Receipt", "Retry-After"];

/**
 * Lets the pages of one other origin pay here, as `docs/browser.md` says. Before the payment plugin: what a browser asks
 * before it sends anything carries no payment.
 */
export function allowPagesOf(app: FastifyInstance, origin: string): void {
	app.addHook("onRequest", async (request, reply) => {
		if (request.headers.origin !== origin) return undefined;
		reply
			.header("access-control-allow-origin", origin)
			.header("access-control-expose-headers", EXPOSED.join(", "))
			.header("vary", "Origin");
		if (request.method !== "OPTIONS") return undefined;
		return reply
			.header("access-control-allow-methods", "GET, HEAD, POST")
			.header("access-control-allow-headers", ALLOWED.join(", "))
			.header("access-control-max-age", "600")
			.code(204)
			.send();
	});
}
