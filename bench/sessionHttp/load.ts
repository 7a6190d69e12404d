/** Who pays: its requests are signed before the clock runs, and sent over kept connections from a process of its own. */
import { randomUUID } from "node:crypto";
import { type Challenge, decodeReceipt, parseChallenges } from "../../src/protocol/index.ts";
import { measureRound } from "../lib/round.ts";
import { serveSide } from "../lib/side.ts";
import { domainOf, voucherHeader } from "../lib/vouchers.ts";
import { sendAll } from "./connections.ts";
import { AHEAD, type LoadOrder, type LoadStart, type Mode, PATH, PRICE } from "./messages.ts";

serveSide<LoadStart, LoadOrder, null>(async ({ place: { channels, ...place } }) => {
	const domain = domainOf(place);
	// What each channel has signed, by server: each has books of its own.
	const signed = new Map<string, bigint>();
	let requests: readonly Uint8Array[] = [];
	let port = 0;
	let mode: Mode = "unpaid";

	/** Channels in turn. */
	async function prepare(count: number): Promise<readonly string[]> {
		const head = `GET ${PATH} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n`;
		if (mode === "unpaid") return Array.from({ length: count }, () => `${head}\r\n`);
		if (mode === "x402")
			return prepareX402(head, { url: `http://127.0.0.1:${port}${PATH}`, count, channels: channels.length });
		const challenges = await fetchChallenges(port, Math.min(count, channels.length));
		const ahead = mode === "ahead" ? AHEAD : 1;
		const headers = new Map<string, string>();
		return Array.from({ length: count }, (_, at) => {
			const channel = channels[at % channels.length];
			const challenge = challenges[at % channels.length];
			if (channel === undefined || challenge === undefined) throw new Error("the stage has no channels");
			const key = `${port}:${channel.channelId}`;
			if (Math.floor(at / channels.length) % ahead === 0) {
				const cumulativeAmount = (signed.get(key) ?? 0n) + PRICE * BigInt(ahead);
				signed.set(key, cumulativeAmount);
				headers.set(key, voucherHeader(domain, challenge, channel, cumulativeAmount));
			}
			const idempotencyKey = ahead === 1 ? "" : `idempotency-key: ${randomUUID()}\r\n`;
			return `${head}authorization: ${headers.get(key)}\r\n${idempotencyKey}\r\n`;
		});
	}

	return {
		info: null,
		async round(order) {
			if ("prepare" in order) {
				({ port, prepare: mode } = order);
				return measureRound(order.count, async () => {
					requests = (await prepare(order.count)).map((text) => Buffer.from(text, "latin1"));
				});
			}
			const { send: count, connections } = order;
			const check = CHECKS[mode];
			return measureRound(count, (latenciesMs) => sendAll({ port, requests, connections, latenciesMs, check }));
		},
	};
});

/** One for each channel, which answers it again and again while it is good (D9). */
async function fetchChallenges(port: number, count: number): Promise<readonly Challenge[]> {
	const challenges: Challenge[] = [];
	while (challenges.length < count) {
		const answer = await fetch(`http://127.0.0.1:${port}${PATH}`);
		const [parsed] = parseChallenges(answer.headers.get("www-authenticate") ?? "");
		if (answer.status !== 402 || parsed === undefined) throw new Error(`no challenge: the answer was ${answer.status}`);
		await answer.arrayBuffer();
		challenges.push(parsed.challenge);
	}
	return challenges;
}

const CHECKS: Readonly<Record<Mode, (head: string) => void>> = {
	paid: checkReceipt,
	ahead: checkReceipt,
	unpaid: () => undefined,
	x402(head) {
		if (!/\r\npayment-response: *\S/i.test(head)) throw new Error("an answer of x402's has no receipt");
	},
};

function checkReceipt(head: string): void {
	const receipt = decodeReceipt(/\r\npayment-receipt: *(\S+)/i.exec(head)?.[1] ?? "");
	if (receipt.intent !== "session" || receipt.units !== 1) throw new Error("an answer has another receipt");
}

type X402Order = Readonly<{ url: string; count: number; channels: number }>;

/** What makes them is the peers' own, and need not be installed. */
async function prepareX402(head: string, order: X402Order): Promise<readonly string[]> {
	const { prepare } = await import(new URL("../peers/x402Requests.mjs", import.meta.url).href);
	const requests: readonly Readonly<Record<string, string>>[] = await prepare(order);
	return requests.map((headers) => {
		const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
		return `${head}${fields.join("")}\r\n`;
	});
}
