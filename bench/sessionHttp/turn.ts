/** One mode of the bench as a side: a server, and who pays it. */
import type { Turn } from "../lib/bench.ts";
import type { Round } from "../lib/round.ts";
import { type LoadOrder, type Mode, PRICE, type Served, type ServerInfo, type ServerOrder } from "./messages.ts";

/** How many requests, and over how many connections: so many are under way at a time. */
export type HttpOrder = Readonly<{ count: number; connections: number }>;

type Asked<Order> = Readonly<{ round(order: Order): Promise<Round> }>;

/**
 * Rounds whose processor time is the server's and whose times are as its clients see them.
 *
 * @throws where the books don't say that each answer was paid for: the price, once
 */
export function turnOf(
	server: Asked<ServerOrder> & Readonly<{ info: Pick<ServerInfo, "port"> }>,
	payers: Asked<LoadOrder>,
	mode: Mode,
	order: HttpOrder,
): Turn<HttpOrder> {
	const round = async ({ count, connections }: HttpOrder): Promise<Round> => {
		await payers.round({ prepare: mode, port: server.info.port, count });
		const before = (await server.round("begin")) as Served;
		const sent = await payers.round({ send: count, connections });
		const served = (await server.round({ count })) as Served;
		const owed = mode === "unpaid" ? 0n : PRICE * BigInt(count);
		if (served.spent - before.spent !== owed)
			throw new Error(`the books say ${served.spent - before.spent} for ${count} ${mode} requests, not ${owed}`);
		return { ...sent, cpuSeconds: served.cpuSeconds, rssBytes: served.rssBytes };
	};
	return { side: { round }, order };
}
