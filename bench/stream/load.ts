/** Who reads the streams and pays for them, in a process of its own: cheap enough that the server is what is measured. */
import type { Hex } from "viem";
import { type Challenge, parseChallenges } from "../../src/protocol/index.ts";
import { measureRound } from "../lib/round.ts";
import { serveSide } from "../lib/side.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";
import { Line } from "./line.ts";
import { type Delivered, type LoadOrder, type LoadStart, MODES, type Plan, PRICE, type Read } from "./messages.ts";
import { readStream, type Tab } from "./tab.ts";

/** For vouchers, beside the streams. */
const CONNECTIONS = 32;

serveSide<LoadStart, LoadOrder, null>(async ({ place, port }) => {
	const domain = domainOf(place);
	/** What each channel has signed: all of it is used up by the end of a round. Base units. */
	const signed = new Map<Hex, bigint>();
	let tabs: readonly Omit<Tab, "pay">[] = [];

	async function prepare({ mode, streams, events }: Plan): Promise<void> {
		const { path, metered, unitsPerEvent, ahead, step } = MODES[mode];
		const isPaid = metered !== undefined;
		const head = (method: string) => `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n`;
		const challenges = isPaid ? await askForChallenges(port, `${head("HEAD")}\r\n`, streams) : [];
		const price = PRICE * BigInt(unitsPerEvent);
		tabs = place.channels.slice(0, streams).map((channel, at): Omit<Tab, "pay"> => {
			const { channelId } = channel;
			const challenge = challenges[at];
			const before = signed.get(channelId) ?? 0n;
			const shared = { port, channelId, isPaid, signed: before };
			if (challenge === undefined)
				return { ...shared, request: `${head("GET")}connection: close\r\n\r\n`, vouchers: [] };
			const sign = (units: number) =>
				`authorization: ${voucherHeader(domain, challenge, channel, before + PRICE * BigInt(units))}\r\n`;
			const all = events * unitsPerEvent;
			let units = Math.min(all, ahead);
			const request = `${head("GET")}connection: close\r\n${sign(units)}\r\n`;
			const vouchers: Tab["vouchers"][number][] = [];
			while (units < all) {
				const next = Math.min(all, units + step);
				const afterEvents = Math.ceil((units + step - ahead) / unitsPerEvent);
				vouchers.push({ afterEvents, request: `${head("HEAD")}${sign(next)}\r\n` });
				units = next;
			}
			signed.set(channelId, before + price * BigInt(events));
			return { ...shared, signed: before + price * BigInt(events), request, vouchers };
		});
	}

	async function read(): Promise<readonly Delivered[]> {
		const failed = Promise.withResolvers<never>();
		failed.promise.catch(() => undefined);
		let unanswered = 0;
		const over = Promise.withResolvers<void>();
		const line = new Line({ port, connections: CONNECTIONS, fail: failed.reject });
		const pay = (request: string) => {
			unanswered++;
			line.send(request, (head) => {
				if (!head.startsWith("HTTP/1.1 200 ")) failed.reject(new Error(`a voucher was answered: ${head}`));
				if (--unanswered === 0) over.resolve();
			});
		};
		try {
			const streams = await Promise.race([Promise.all(tabs.map((tab) => readStream({ ...tab, pay }))), failed.promise]);
			if (unanswered > 0) await Promise.race([over.promise, failed.promise]);
			return streams;
		} finally {
			line.close();
		}
	}

	return {
		info: null,
		async round(order): Promise<Read> {
			if (order !== "read") {
				const round = await measureRound(order.prepare.streams, () => prepare(order.prepare));
				return { ...round, streams: [] };
			}
			let streams: readonly Delivered[] = [];
			const round = await measureRound(tabs.length, async () => {
				streams = await read();
			});
			return { ...round, streams };
		},
	};
});

/** One for each channel, which answers it again and again while it is good (D9). */
async function askForChallenges(port: number, request: string, count: number): Promise<readonly Challenge[]> {
	const { promise: failed, reject } = Promise.withResolvers<never>();
	const line = new Line({ port, connections: CONNECTIONS, fail: reject });
	const ask = () =>
		new Promise<Challenge>((resolve) =>
			line.send(request, (head) => {
				const [parsed] = parseChallenges(head.match(/^www-authenticate: *(.*)\r$/im)?.[1] ?? "");
				if (parsed === undefined) reject(new Error(`no challenge: ${head}`));
				else resolve(parsed.challenge);
			}),
		);
	try {
		return await Promise.race([Promise.all(Array.from({ length: count }, ask)), failed]);
	} finally {
		line.close();
	}
}
