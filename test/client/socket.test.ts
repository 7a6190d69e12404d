/** The payer's side of paid WebSockets, against the real server: it pays as it reads, by the policy of streams. */
import { once } from "node:events";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { PayerSocket, PaymentClient, PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import type { SocketMessage } from "../../src/protocol/index.ts";
import type { SocketHandler } from "../../src/server/index.ts";
import { type SocketPlace, serveSockets, UNIT, until } from "../server/http/socketStage.ts";
import { useWorld } from "../support/useWorld.ts";
import { clientFor, codeOf, type Spy, spyOn } from "./support.ts";

const world = useWorld();
let place: SocketPlace | undefined;

afterEach(async () => {
	vi.unstubAllGlobals();
	await place?.server.stop();
	place = undefined;
});

type Scene = SocketPlace & Readonly<{ client: PaymentClient; spy: Spy; url: string }>;

async function scene(
	handler: SocketHandler,
	{
		policy = {},
		client = {},
		...options
	}: Parameters<typeof serveSockets>[2] &
		Readonly<{ policy?: Partial<PaymentPolicy>; client?: Partial<PaymentClientOptions> }> = {},
): Promise<Scene> {
	place = await serveSockets(world, handler, {
		challengeInBand: true,
		price: { price: UNIT, unitType: "message", suggestedDeposit: "10000", metered: { per: "piece", blockUnits: 2 } },
		...options,
	});
	const payer = await world.payer();
	const spy = spyOn(payer.account);
	const { host } = new URL(place.server.url);
	const limits = { maxStream: 100_000n, ...policy };
	const paying = clientFor(world, spy.account, [host], limits, { stream: { aheadUnits: 4 }, ...client });
	return { ...place, client: paying, spy, url: `${place.server.url.replace("http", "ws")}/chat` };
}

const counting =
	(count: number): SocketHandler =>
	async ({ send }) => {
		for (let at = 1; at <= count; at++) await send(`message ${at}`);
	};

async function readAll(socket: PayerSocket): Promise<readonly SocketMessage[]> {
	const messages: SocketMessage[] = [];
	for await (const message of socket) messages.push(message);
	return messages;
}

/** What the server was paid is what it has sold, in both books and on chain. */
async function expectSettled({ client, server, spy }: Scene, units: bigint): Promise<void> {
	const [channel] = client.channels;
	if (channel === undefined) throw new Error("there is no channel");
	await until("the server's count is final", async () => (await server.amounts(channel))?.reserved === 0n);
	expect((await server.amounts(channel))?.spent).toBe(units * UNIT);
	const [signed = 0n] = spy.vouchers().slice(-1);
	expect(signed).toBeGreaterThanOrEqual(units * UNIT);
	await client.close();
	expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: units * UNIT });
}

describe("payer.socket", () => {
	it("opens a channel on the socket itself, pays as it reads, and ends with the server's count", async () => {
		const at = await scene(counting(20));
		const socket = await at.client.socket(at.url);
		expect(socket.receipt).toMatchObject({ intent: "session", status: "success" });
		expect(await readAll(socket)).toEqual(Array.from({ length: 20 }, (_, n) => `message ${n + 1}`));
		expect(await socket.closed).toMatchObject({ code: 1000 });
		const [channel] = at.client.channels;
		expect(channel?.consumed).toBe(20n * UNIT);
		// Never more than the credit ahead of what was read.
		expect(channel?.signed).toBeLessThanOrEqual(24n * UNIT);
		await expectSettled(at, 20n);
	});

	it("pays no further than it reads: the server waits", async () => {
		let sent = 0;
		const at = await scene(async ({ send }) => {
			for (; sent < 30; sent++) await send("again");
		});
		const socket = await at.client.socket(at.url);
		for (let read = 0; read < 10; read++) expect(await socket.next()).toBe("again");
		let before = -1;
		await until("the server stands still", async () => {
			const isStill = sent === before;
			before = sent;
			await new Promise((resolve) => setTimeout(resolve, 100));
			return isStill && sent === before;
		});
		expect(sent).toBeGreaterThanOrEqual(10);
		expect(sent).toBeLessThanOrEqual(14);
		expect((await readAll(socket)).length).toBe(20);
		await expectSettled(at, 30n);
	});

	it("talks in texts, events and bytes", async () => {
		const at = await scene(async ({ messages, send }) => {
			for await (const message of messages) {
				if (message === "bye") return;
				await send(message);
			}
		});
		const socket = await at.client.socket(at.url);
		for (const message of ["a text", { event: "question", data: [1, null] }, new Uint8Array([7, 0, 255])]) {
			socket.send(message);
			expect(await socket.next()).toEqual(message);
		}
		expect(() => socket.send({ event: "payment-receipt", data: {} })).toThrow(/payment-/);
		socket.send("bye");
		expect(await socket.next()).toBeUndefined();
		expect(() => socket.send("again")).toThrow(/closed/);
		await expectSettled(at, 3n);
	});

	it("counts bytes where the server sells bytes", async () => {
		const at = await scene(
			async ({ send }) => {
				for (let n = 0; n < 10; n++) await send(new Uint8Array(10));
			},
			{
				price: { price: "10", unitType: "byte", suggestedDeposit: "10000", metered: { per: "byte", blockUnits: 10 } },
				client: { stream: { aheadUnits: 20 } },
			},
		);
		const socket = await at.client.socket(at.url);
		expect(await readAll(socket)).toHaveLength(10);
		expect(at.client.channels[0]?.consumed).toBe(1_000n);
		await expectSettled(at, 10n);
	});

	it("tops its channel up midway", async () => {
		const at = await scene(counting(30), { policy: { maxDeposit: 1_500n, maxTotal: 10_000n } });
		const socket = await at.client.socket(at.url);
		expect(await readAll(socket)).toHaveLength(30);
		expect(at.client.channels[0]?.deposit).toBeGreaterThan(1_500n);
		await expectSettled(at, 30n);
	});

	it("uses the channel that it has, by header or by message alike", async () => {
		const at = await scene(counting(2));
		await readAll(await at.client.socket(at.url));
		const whole = await at.client.fetch(at.url.replace("ws", "http"));
		expect(await whole.text()).toBe("over HTTP");
		await readAll(await at.client.socket(at.url));
		expect(at.client.channels).toHaveLength(1);
		expect(at.spy.deposits()).toHaveLength(1);
		await expectSettled(at, 5n);
	});
});

describe("what ends a socket", () => {
	const waiting: SocketHandler = async ({ send, signal }) => {
		await send("one");
		await once(signal, "abort");
	};

	it("is the reader: what was read is paid, nothing is signed any more", async () => {
		const at = await scene(counting(100));
		const socket = await at.client.socket(at.url);
		for (let read = 0; read < 3; read++) await socket.next();
		await socket.close();
		await until("the server lets go of it", () => at.sockets.size === 0);
		const [channel] = at.client.channels;
		const amounts = channel && (await at.server.amounts(channel));
		expect(amounts?.spent).toBeGreaterThanOrEqual(3n * UNIT);
		expect(amounts?.spent).toBeLessThanOrEqual(7n * UNIT);
		expect(channel?.signed).toBeLessThanOrEqual(7n * UNIT);
	});

	it("is its signal, also before it is open", async () => {
		const at = await scene(waiting);
		const stop = new AbortController();
		const socket = await at.client.socket(at.url, { signal: stop.signal });
		expect(await socket.next()).toBe("one");
		stop.abort(new Error("enough"));
		await expect(socket.next()).rejects.toThrow("enough");
		await until("the server lets go of it", () => at.sockets.size === 0);
		await expect(at.client.socket(at.url, { signal: stop.signal })).rejects.toThrow("enough");
	});

	it("is the handler's failure, and the channel is good for the next one", async () => {
		let isFirst = true;
		const at = await scene(async ({ send }) => {
			await send("one");
			if (!isFirst) return;
			isFirst = false;
			throw new Error("midway");
		});
		const socket = await at.client.socket(at.url);
		expect(await socket.next()).toBe("one");
		await expect(socket.next()).rejects.toMatchObject({ code: "SOCKET_CLOSED", closeCode: 1011 });
		expect(await readAll(await at.client.socket(at.url))).toEqual(["one"]);
		expect(at.client.channels).toHaveLength(1);
		await expectSettled(at, 2n);
	});

	it("is a newer one on the same channel (D16)", async () => {
		const at = await scene(waiting);
		const first = await at.client.socket(at.url);
		expect(await first.next()).toBe("one");
		const second = await at.client.socket(at.url);
		expect(await second.next()).toBe("one");
		expect(await codeOf(first.next())).toBe("STREAM_STOPPED");
		expect((await first.closed).code).toBe(4409);
		await second.close();
	});

	it("is the policy: a stream may cost so much, and no more", async () => {
		const at = await scene(counting(20), { policy: { maxStream: 5n * UNIT } });
		const socket = await at.client.socket(at.url);
		for (let read = 0; read < 5; read++) await socket.next();
		expect(await codeOf(socket.next())).toBe("STREAM_LIMIT");
		await until("the server lets go of it", () => at.sockets.size === 0);
		await expectSettled(at, 5n);
	});

	it("is a flood that nobody reads", async () => {
		const at = await scene(async ({ send }) => send(new Uint8Array(50_000)));
		const socket = await at.client.socket(at.url, { maxQueuedBytes: 10_000 });
		await expect(socket.next()).rejects.toMatchObject({ code: "SOCKET_CLOSED", closeCode: 1009 });
	});
});

describe("a socket that can't be paid for", () => {
	it("signs nothing where the policy forbids it, and is closed", async () => {
		const at = await scene(counting(1), { policy: { maxPrice: 1n } });
		expect(await codeOf(at.client.socket(at.url))).toBe("POLICY_REFUSED");
		await until("the server lets go of it", () => at.sockets.size === 0);
		expect(at.spy.signed).toEqual([]);
	});

	it("is not opened in plain text to elsewhere", async () => {
		const at = await scene(counting(1));
		expect(await codeOf(at.client.socket("ws://api.example.com/chat"))).toBe("POLICY_REFUSED");
	});

	it("says so where the server takes no payment by messages", async () => {
		const at = await scene(counting(1), { challengeInBand: false });
		expect(await codeOf(at.client.socket(at.url))).toBe("SOCKET_CLOSED");
	});

	it("says so where the platform has no WebSocket", async () => {
		const at = await scene(counting(1));
		vi.stubGlobal("WebSocket", undefined);
		expect(await codeOf(at.client.socket(at.url))).toBe("SOCKET_UNAVAILABLE");
	});

	it("may be one of another library", async () => {
		const at = await scene(counting(3));
		vi.stubGlobal("WebSocket", undefined);
		const { WebSocket: Other } = await import("ws");
		const connect = (url: string, protocols: string[]) => new Other(url, protocols) as unknown as WebSocket;
		expect(await readAll(await at.client.socket(at.url, { connect }))).toHaveLength(3);
	});
});
