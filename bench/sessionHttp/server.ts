/** The server that is paid, and the same one that is not: Fastify with one route, in a process of its own. */
import { join } from "node:path";
import Fastify from "fastify";
import { type ChannelStore, sluice } from "../../src/server/index.ts";
import { openShop, type Shop } from "../lib/shop.ts";
import { serveSide } from "../lib/side.ts";
import { PATH, PRICE, type Served, type ServerInfo, type ServerOrder, type ServerStart } from "./messages.ts";

serveSide<ServerStart, ServerOrder, ServerInfo>(async ({ shop: selling }) => {
	const warnings: string[] = [];
	const log = {
		info: () => undefined,
		warn: (_values: object, message: string) => void warnings.push(message),
		error: (_values: object, message: string) => console.error(message),
	};
	const app = Fastify();
	let shop: Shop | undefined;
	if (selling !== undefined) {
		const { place, folder, fsync = true } = selling;
		shop = await openShop(place, { folder: join(folder, `http-${process.pid}`), fsync, options: { log } });
		await app.register(sluice, { engine: shop.engine });
	}
	const config = { payment: { price: PRICE, unitType: "request" } };
	app.get(PATH, shop === undefined ? {} : { config }, async () => ({ quote: 42 }));
	await app.listen({ host: "127.0.0.1", port: 0 });
	const address = app.server.address();
	if (address === null || typeof address === "string") throw new Error("the server has no port");

	let cpuBefore = process.cpuUsage();
	let startedAt = performance.now();
	return {
		info: { port: address.port, warnings },
		async round(order): Promise<Served> {
			const { user, system } = process.cpuUsage(cpuBefore);
			const seconds = (performance.now() - startedAt) / 1_000;
			const rssBytes = process.memoryUsage.rss();
			const spent = shop === undefined ? 0n : await spentIn(shop.store);
			if (order === "begin") {
				cpuBefore = process.cpuUsage();
				startedAt = performance.now();
			}
			const count = order === "begin" ? 0 : order.count;
			return { count, seconds, cpuSeconds: (user + system) / 1e6, rssBytes, spent };
		},
		async stop() {
			await app.close();
			await shop?.close();
		},
	};
});

async function spentIn(store: ChannelStore): Promise<bigint> {
	let sum = 0n;
	for await (const { spent } of store.channels()) sum += spent;
	return sum;
}
