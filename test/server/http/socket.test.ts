/**
 * Metered WebSockets (draft-evm-session-00, Insufficient Balance During Streaming, for sockets): what was delivered is what
 * was paid, however a socket ends, in the server's ledger and on chain.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { formatSocketMessage, problemType } from "../../../src/protocol/index.ts";
import { type PaidSocket, type PaidSockets, paidSocket, type SocketHandler } from "../../../src/server/index.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type PaidServer, type Payer, type TestChannel } from "../../support/world.ts";
import { Client, plainAnswer, type SocketPlace, serveSockets, UNIT, until } from "./socketStage.ts";

const world = useWorld();
let place: SocketPlace | undefined;

afterEach(async () => {
	await place?.server.stop();
	place = undefined;
});

type Scene = Readonly<{ server: PaidServer; sockets: PaidSockets; payer: Payer; channel: TestChannel }>;

async function scene(
	handler: SocketHandler,
	options: Parameters<typeof serveSockets>[2] = {},
	deposit = DEPOSIT,
): Promise<Scene> {
	place = await serveSockets(world, handler, options);
	const payer = await world.payer();
	return { ...place, payer, channel: await place.server.open(payer, { deposit }, "/chat") };
}

async function voucher({ server, payer, channel }: Scene, units: bigint) {
	return payer.voucher(await server.challenge("/chat"), channel, units * UNIT);
}

async function connect(at: Scene, units: bigint): Promise<Client> {
	return new Client(at.server, await voucher(at, units));
}

/** Closes the channel with what was spent, and sees that the chain has paid as much. */
async function expectSettled({ server, payer, channel }: Scene, units: bigint): Promise<void> {
	const draft = await payer.close(await server.challenge("/chat"), channel, units * UNIT);
	expect((await server.pay("/chat", draft)).status).toBe(200);
	expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: units * UNIT });
}

async function amounts({ server, channel }: Scene) {
	return server.amounts(channel);
}

/** Makes each challenge, and so each refusal, a long one. */
const LONG = Object.fromEntries(["a", "b", "c", "d"].map((name) => [name, "x".repeat(500)]));

/** Sends `count` numbered messages. */
const counting =
	(count: number): SocketHandler =>
	async ({ send }) => {
		for (let at = 1; at <= count; at++) await send(`message ${at}`);
	};

describe("a socket that is not paid for", () => {
	it("is a 402 with challenges in place of the upgrade, and nothing runs", async () => {
		let ran = false;
		const at = await scene(() => {
			ran = true;
		});
		const { status, headers, problem } = await plainAnswer(new Client(at.server));
		expect({ status, type: problem?.type }).toEqual({ status: 402, type: problemType("payment-required") });
		expect(headers["www-authenticate"]).toContain("Payment ");
		expect({ ran, size: at.sockets.size }).toEqual({ ran: false, size: 0 });
	});

	it("is refused for a forged voucher, as any request", async () => {
		const at = await scene(counting(1));
		const stranger = await world.payer({ funds: 0n });
		const draft = await at.payer.voucher(await at.server.challenge("/chat"), at.channel, UNIT, {
			signer: stranger.account,
		});
		const { status, problem } = await plainAnswer(new Client(at.server, draft));
		expect({ status, type: problem?.type }).toEqual({ status: 402, type: problemType("session/signer-mismatch") });
		expect(await amounts(at)).toEqual({ acceptedCumulative: 0n, spent: 0n, reserved: 0n });
	});

	it("is refused where it came in plain text from elsewhere, or there is no price for it", async () => {
		const elsewhere = { isSecure: false, isLoopback: false };
		const at = await scene(counting(1), { transport: () => elsewhere });
		expect((await plainAnswer(await connect(at, 1n))).status).toBe(403);
		const none = () => {
			throw Object.assign(new Error("no such room"), { statusCode: 404 });
		};
		const sockets = await paidSocket(at.server.engine, none, counting(1));
		const http = createServer().on("upgrade", sockets.upgrade).listen(0, "127.0.0.1");
		await once(http, "listening");
		const { port } = http.address() as AddressInfo;
		expect((await plainAnswer(new Client({ url: `http://127.0.0.1:${port}` }))).status).toBe(404);
		http.close();
	});

	it("gets a receipt in place of the upgrade where its credential is about the channel alone (D11)", async () => {
		const { server } = await scene(counting(1));
		const payer = await world.payer();
		const channel = payer.channel(server.payee);
		const draft = await payer.open(await server.challenge("/chat"), channel, { deposit: DEPOSIT });
		const { status, headers } = await plainAnswer(new Client(server, draft));
		expect({ status, receipt: typeof headers["payment-receipt"] }).toEqual({ status: 200, receipt: "string" });
	});
});

describe("a payer that pays as it reads", () => {
	it("is asked for each voucher, gets each message once it has paid, and the receipt last (I1, I2)", async () => {
		const at = await scene(counting(5));
		const client = await connect(at, 1n);
		for (let units = 2n; units <= 5n; units++) {
			await until(
				`voucher ${units} is asked for`,
				() => client.said("payment-need-voucher").length === Number(units) - 1,
			);
			expect(client.messages).toHaveLength(Number(units) - 1);
			expect(client.said("payment-need-voucher").at(-1)?.data).toEqual({
				channelId: at.channel.channelId,
				requiredCumulative: String(units * UNIT),
				acceptedCumulative: String((units - 1n) * UNIT),
				deposit: String(DEPOSIT),
			});
			client.authorize(await voucher(at, units));
		}
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toEqual([1, 2, 3, 4, 5].map((n) => `message ${n}`));
		const [admitted, ...later] = client.receipts;
		expect(client.head?.headers["payment-receipt"]).toBeDefined();
		expect(admitted).toMatchObject({ isAdmitted: true, spent: 0n, acceptedCumulative: UNIT });
		expect(later.every(({ isAdmitted }) => !isAdmitted)).toBe(true);
		expect(later.at(-1)).toMatchObject({ spent: 5n * UNIT, acceptedCumulative: 5n * UNIT });
		expect(await amounts(at)).toEqual({ acceptedCumulative: 5n * UNIT, spent: 5n * UNIT, reserved: 0n });
		await expectSettled(at, 5n);
	});

	it("may send its vouchers by HEAD beside the socket", async () => {
		const at = await scene(counting(2));
		const client = await connect(at, 1n);
		await until("a voucher is asked for", () => client.said("payment-need-voucher").length === 1);
		expect((await at.server.send("/chat", { method: "HEAD", authorization: await voucher(at, 2n) })).status).toBe(200);
		expect((await client.closed).code).toBe(1000);
		expect(await amounts(at)).toEqual({ acceptedCumulative: 2n * UNIT, spent: 2n * UNIT, reserved: 0n });
	});

	it("is told why a voucher is not taken, and may send another", async () => {
		const at = await scene(counting(2));
		const client = await connect(at, 1n);
		await until("a voucher is asked for", () => client.said("payment-need-voucher").length === 1);
		client.authorize("Payment nonsense");
		client.authorize(await voucher(at, DEPOSIT / UNIT + 1n));
		await until("both are refused", () => client.said("payment-required").length === 2);
		const [malformed, tooMuch] = client.said("payment-required").map(({ data }) => data);
		expect(malformed).toMatchObject({ problem: { type: problemType("malformed-credential") } });
		expect(tooMuch).toMatchObject({ problem: { type: problemType("session/amount-exceeds-deposit") } });
		expect(String(tooMuch?.challenges)).toContain("Payment ");
		client.authorize(await voucher(at, 2n));
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toHaveLength(2);
	});

	it("pays what the handler charges, and bytes by their number", async () => {
		const at = await scene(
			async ({ meter, send }) => {
				await meter?.charge(3);
				await send(new Uint8Array([1, 2, 3]));
				await send({ event: "done", data: { ok: true } });
			},
			{ price: { price: UNIT, metered: { per: "byte", blockUnits: 4 } } },
		);
		const client = await connect(at, 50n);
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toEqual([new Uint8Array([1, 2, 3]), { event: "done", data: { ok: true } }]);
		const units = 3n + 3n + BigInt(JSON.stringify({ ok: true }).length);
		expect(await amounts(at)).toMatchObject({ spent: units * UNIT, reserved: 0n });
	});

	it("talks with the handler in texts, events and bytes", async () => {
		const at = await scene(async ({ messages, send }) => {
			for await (const message of messages) {
				if (message === "bye") return;
				await send(message);
			}
		});
		const client = await connect(at, 10n);
		await until("it is admitted", () => client.receipts.length === 1);
		const sent = ["a text", { event: "question", data: [1, 2] }, new Uint8Array([9, 8])];
		for (const message of [...sent, "bye"]) client.ws.send(formatSocketMessage(message));
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toEqual(sent);
		expect(await amounts(at)).toMatchObject({ spent: 3n * UNIT });
	});
});

describe("a payer that does not pay on", () => {
	it("is dropped after the deadline: what was delivered is charged, the rest released (I2, I7)", async () => {
		const at = await scene(counting(9), {
			price: { price: UNIT, metered: { per: "piece", blockUnits: 4, stallMs: 150 } },
		});
		const client = await connect(at, 3n);
		const { code } = await client.closed;
		expect({ code, messages: client.messages.length }).toEqual({ code: 4402, messages: 3 });
		expect(client.said("payment-required").at(-1)?.data).toMatchObject({
			problem: { type: problemType("session/insufficient-balance"), requiredCumulative: String(4n * UNIT) },
		});
		await until("it is written down", async () => (await amounts(at))?.reserved === 0n);
		expect(await amounts(at)).toEqual({ acceptedCumulative: 3n * UNIT, spent: 3n * UNIT, reserved: 0n });
		await expectSettled(at, 3n);
	});

	it("goes on where it pays late, but in time", async () => {
		const at = await scene(counting(2));
		const client = await connect(at, 1n);
		await until("a voucher is asked for", () => client.said("payment-need-voucher").length === 1);
		await new Promise((resolve) => setTimeout(resolve, 100));
		client.authorize(await voucher(at, 2n));
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toHaveLength(2);
	});
});

describe("a client that is gone", () => {
	it("pays what it was sent, and its handler is told", async () => {
		let socket: PaidSocket | undefined;
		const at = await scene(async (it) => {
			socket = it;
			await it.send("one");
			await once(it.signal, "abort");
			throw new Error("not heard of any more");
		});
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		client.ws.terminate();
		await until("the socket is let go of", () => at.sockets.size === 0);
		expect(socket?.signal.reason).toMatchObject({ code: "METER_STOPPED", why: "left" });
		await expect(socket?.send("two")).rejects.toMatchObject({ code: "METER_STOPPED" });
		expect(await amounts(at)).toEqual({ acceptedCumulative: 5n * UNIT, spent: UNIT, reserved: 0n });
		await expectSettled(at, 1n);
	});

	it("in its mind, but sends on and reads nothing of what is answered, is ended with what was delivered", async () => {
		const at = await scene(
			async ({ send, signal }) => {
				await send("one");
				await once(signal, "abort");
			},
			{
				pingMs: 60_000,
				price: { price: UNIT, opaque: LONG, metered: { per: "piece", blockUnits: 1 } },
			},
		);
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		client.ws.pause();
		// At a pace that it is well looked at: it is the answers that pile up.
		const sending = setInterval(() => {
			if (client.ws.readyState === client.ws.OPEN) client.authorize("Payment nonsense");
		}, 1);
		try {
			await until("the socket is let go of", () => at.sockets.size === 0);
		} finally {
			clearInterval(sending);
			client.ws.terminate();
		}
		expect(await amounts(at)).toMatchObject({ spent: UNIT, reserved: 0n });
	});

	it("without a word is found out by its silence", async () => {
		const at = await scene(
			async ({ send, signal }) => {
				await send("one");
				await once(signal, "abort");
			},
			{ pingMs: 50 },
		);
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		client.ws.pause();
		await until("the socket is let go of", () => at.sockets.size === 0);
		expect(await amounts(at)).toMatchObject({ spent: UNIT, reserved: 0n });
		client.ws.terminate();
	});

	it("while it only reads slowly, slows the handler, which buffers nothing", async () => {
		const bytes = new Uint8Array(65_536);
		const all = 2_000;
		let made = 0;
		const at = await scene(
			async ({ send }) => {
				for (; made < all; made++) await send(bytes);
			},
			{ price: { price: "1", metered: { per: "piece", blockUnits: 100 } } },
		);
		const client = new Client(
			at.server,
			await at.payer.voucher(await at.server.challenge("/chat"), at.channel, 2_000n),
		);
		await until("it is admitted", () => client.receipts.length === 1);
		client.ws.pause();
		let before = -1;
		await until("the handler stands still", async () => {
			const isStill = made === before;
			before = made;
			await new Promise((resolve) => setTimeout(resolve, 100));
			return isStill && made === before;
		});
		expect(made).toBeLessThan(all / 2);
		expect((await at.server.ledger(at.channel))?.spent).toBeLessThanOrEqual(BigInt(made) + 1n);
		client.ws.resume();
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toHaveLength(all);
		expect(await amounts(at)).toMatchObject({ spent: 2_000n, reserved: 0n });
	});
});

describe("a handler", () => {
	it("that fails ends the socket with 1011: what was delivered before is charged", async () => {
		const errors: unknown[] = [];
		const at = await scene(
			async ({ send, meter }) => {
				await send("one");
				await send("two");
				await meter?.charge(1);
				throw new Error("midway");
			},
			{ onError: (error) => errors.push(error) },
		);
		const client = await connect(at, 5n);
		expect((await client.closed).code).toBe(1011);
		expect(errors).toMatchObject([{ message: "midway" }]);
		expect(await amounts(at)).toEqual({ acceptedCumulative: 5n * UNIT, spent: 2n * UNIT, reserved: 0n });
		await expectSettled(at, 2n);
	});

	it("that waits for no charge sends what was paid for, and no more (I1)", async () => {
		const at = await scene(
			async ({ send, meter }) => {
				for (let n = 1; n <= 200; n++) {
					meter?.charge().catch(() => undefined);
					await send(String(n));
				}
			},
			{ price: { price: UNIT, metered: { blockUnits: 4, stallMs: 150 } } },
		);
		const client = await connect(at, 10n);
		expect((await client.closed).code).toBe(4402);
		expect(client.messages).toHaveLength(10);
		await until("it is written down", async () => (await amounts(at))?.reserved === 0n);
		expect(await amounts(at)).toMatchObject({ spent: 10n * UNIT });
		await expectSettled(at, 10n);
	});

	it("that charges after a message, and fails, is not paid for more than the message", async () => {
		const at = await scene(
			async ({ send, meter }) => {
				await meter?.charge(2);
				const sent = send("one");
				await meter?.charge(5);
				await sent;
				throw new Error("midway");
			},
			{ price: { price: UNIT, metered: { blockUnits: 32 } } },
		);
		const client = await connect(at, 20n);
		expect((await client.closed).code).toBe(1011);
		expect(client.messages).toEqual(["one"]);
		expect(await amounts(at)).toMatchObject({ spent: 2n * UNIT, reserved: 0n });
	});

	it("need not wait for its last message", async () => {
		const at = await scene(({ send }) => {
			void send("one");
			void send("two");
		});
		const client = await connect(at, 5n);
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toEqual(["one", "two"]);
		expect(await amounts(at)).toMatchObject({ spent: 2n * UNIT });
	});

	it("can't send what would pass for a message about the payment, nor pile messages up", async () => {
		const errors: unknown[] = [];
		const at = await scene(async ({ send }) => {
			await send({ event: "payment-receipt", data: {} }).catch((error) => errors.push(error));
			const sending = Array.from({ length: 300 }, () => send("again"));
			for (const one of await Promise.allSettled(sending)) if (one.status === "rejected") errors.push(one.reason);
		});
		const client = await connect(at, 100n);
		await until("it needs more", () => client.said("payment-need-voucher").length > 0);
		client.ws.terminate();
		await until("all are over", () => errors.length > 1);
		expect(errors[0]).toMatchObject({ code: "SOCKET_MESSAGE" });
		expect(errors).toContainEqual(expect.objectContaining({ code: "UNAWAITED_SEND" }));
	});

	it("at one price for the whole socket is paid before its first message", async () => {
		const at = await scene(counting(3), { price: { price: UNIT } });
		const client = await connect(at, 1n);
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toHaveLength(3);
		expect(client.receipts).toEqual([{ isAdmitted: true, acceptedCumulative: UNIT, spent: UNIT }]);
		expect(await amounts(at)).toMatchObject({ spent: UNIT, reserved: 0n });
	});
});

describe("frames that are not taken", () => {
	const waiting: SocketHandler = async ({ send, signal }) => {
		await send("one");
		await once(signal, "abort");
	};

	it.each([
		["no JSON", "hello"],
		["no envelope", "[1]"],
		["no data", '{"event":"message"}'],
		["a reserved name", '{"event":"payment-refund","data":{}}'],
		["a server's message", '{"event":"payment-receipt","data":{}}'],
		["a credential that is no text", '{"event":"payment-authorization","data":{}}'],
	])("end the socket with 1008: %s", async (_, frame) => {
		const at = await scene(waiting);
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		client.ws.send(frame);
		expect((await client.closed).code).toBe(1008);
		await until("the socket is let go of", () => at.sockets.size === 0);
		expect(await amounts(at)).toMatchObject({ spent: UNIT, reserved: 0n });
	});

	it("end it with 1009 where they are too long", async () => {
		const at = await scene(waiting, { maxMessageBytes: 4_096 });
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		client.ws.send(formatSocketMessage("x".repeat(5_000)));
		expect((await client.closed).code).toBe(1009);
		await until("the socket is let go of", () => at.sockets.size === 0);
		expect(await amounts(at)).toMatchObject({ spent: UNIT, reserved: 0n });
	});

	it.each([
		["messages", formatSocketMessage("x".repeat(1_000)), { maxQueuedBytes: 10_000 }],
		["credentials", '{"event":"payment-authorization","data":"Payment x"}', {}],
	])("end it with 1008 where there are more %s than are taken", async (_, frame, options) => {
		const at = await scene(waiting, options);
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		for (let sent = 0; sent < 500; sent++) client.ws.send(frame);
		expect((await client.closed).code).toBe(1008);
	});

	it("are answered in plain HTTP where they are no WebSocket at all", async () => {
		const at = await scene(waiting);
		const answer = await at.server.send("/chat", {
			headers: { Connection: "Upgrade", Upgrade: "telnet" },
			authorization: await voucher(at, 5n),
		});
		expect(answer.status).toBe(400);
		expect(await amounts(at)).toMatchObject({ spent: 0n, reserved: 0n });
	});
});

describe("two sockets on one channel", () => {
	const waiting: SocketHandler = async ({ send, signal }) => {
		await send("one");
		await once(signal, "abort");
	};

	it("are one too many where the second brings nothing new (D16)", async () => {
		const at = await scene(waiting);
		const first = await connect(at, 5n);
		await until("the message is there", () => first.messages.length === 1);
		const { status } = await plainAnswer(await connect(at, 5n));
		expect({ status, size: at.sockets.size }).toEqual({ status: 409, size: 1 });
		first.ws.terminate();
	});

	it("are one after the other where the second pays more: the first ends with 4409, and what it got is charged", async () => {
		const at = await scene(waiting);
		const first = await connect(at, 5n);
		await until("the message is there", () => first.messages.length === 1);
		const second = await connect(at, 6n);
		expect((await first.closed).code).toBe(4409);
		await until("the other message is there", () => second.messages.length === 1);
		second.ws.terminate();
		await until("both are let go of", () => at.sockets.size === 0);
		expect(await amounts(at)).toEqual({ acceptedCumulative: 6n * UNIT, spent: 2n * UNIT, reserved: 0n });
		await expectSettled(at, 2n);
	});
});

describe("where the package ws is not installed", () => {
	it("paid sockets say so at once", async () => {
		const at = await scene(counting(1));
		vi.doMock("ws", () => {
			throw new Error("not installed");
		});
		try {
			await expect(paidSocket(at.server.engine, { price: UNIT }, counting(1))).rejects.toMatchObject({
				code: "SOCKET_LIBRARY",
				message: expect.stringContaining("npm install ws"),
			});
		} finally {
			vi.doUnmock("ws");
		}
	});
});

describe("when the server stops", () => {
	it("sockets end with 1001, what was delivered is charged, and nothing is left behind", async () => {
		const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
		const at = await scene(async ({ send, signal }) => {
			await send("one");
			await once(signal, "abort");
		});
		const before = timers();
		const client = await connect(at, 5n);
		await until("the message is there", () => client.messages.length === 1);
		await at.sockets.close();
		expect((await client.closed).code).toBe(1001);
		expect(await amounts(at)).toEqual({ acceptedCumulative: 5n * UNIT, spent: UNIT, reserved: 0n });
		expect(at.sockets.size).toBe(0);
		expect((await plainAnswer(await connect(at, 6n))).status).toBe(503);
		await until("no timer is left", () => timers() <= before);
	});
});
