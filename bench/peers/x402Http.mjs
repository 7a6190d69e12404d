/**
 * x402's side of `session-http`: Hono on `@hono/node-server` behind `paymentMiddleware` of `@x402/hono`, by batch settlement
 * in memory. Paid requests come from another process (x402Requests.mjs makes them), so that a round has the time and the
 * processor time of this side between two orders: one when the load begins, and one when it has ended.
 *
 * Nothing is in the way that x402 does not need: one route, no paywall, no logger, no facilitator that is asked, and a
 * handler that answers a few bytes.
 */
import { once } from "node:events";
import { serve } from "@hono/node-server";
import { paymentMiddleware } from "@x402/hono";
import { Hono } from "hono";
import { serveSide } from "../lib/side.ts";
import { OFFER, openShop } from "./x402Shop.mjs";

/**
 * @typedef {Readonly<{ channels: number }>} Start as many as pay
 * @typedef {"begin" | Readonly<{ count: number }>} Order how many were paid for since
 * @typedef {Readonly<{ url: string, port: number, warnings: readonly string[] }>} Info where what is sold is
 * @typedef {import("../lib/round.ts").Round & Readonly<{ spent: bigint }>} Served what it took since the order before, and
 *   what all channels together have paid, in base units
 */

const PATH = "/quote";

serveSide(async (/** @type {Start} */ { channels }) => {
	const { server, storage } = await openShop({ channels });
	const app = new Hono();
	app.use(paymentMiddleware({ [`GET ${PATH}`]: { accepts: OFFER } }, server));
	app.get(PATH, (context) => context.json({ quote: 42 }));

	const listener = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
	if (!listener.listening) await once(listener, "listening");
	const { port } = listener.address();

	let cpuBefore = process.cpuUsage();
	let startedAt = performance.now();

	return {
		/** @type {Info} */
		info: { url: `http://127.0.0.1:${port}${PATH}`, port, warnings: [] },
		/** @returns {Promise<Served>} */
		async round(/** @type {Order} */ order) {
			const { user, system } = process.cpuUsage(cpuBefore);
			const seconds = (performance.now() - startedAt) / 1_000;
			const rssBytes = process.memoryUsage.rss();
			const books = await storage.list();
			const spent = books.reduce((sum, { chargedCumulativeAmount }) => sum + BigInt(chargedCumulativeAmount), 0n);
			if (order === "begin") {
				cpuBefore = process.cpuUsage();
				startedAt = performance.now();
			}
			const count = order === "begin" ? 0 : order.count;
			return { count, seconds, cpuSeconds: (user + system) / 1e6, rssBytes, spent };
		},
		async stop() {
			listener.closeAllConnections();
			listener.close();
			await once(listener, "close");
		},
	};
});
