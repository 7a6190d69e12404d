/** Paid sockets of clients that can't send a header with an upgrade, as browsers: challenge and payment are messages. */
import { once } from "node:events";
import { afterEach, describe, expect, it } from "vitest";
import { type Challenge, parseChallenges, problemType } from "../../../src/protocol/index.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, encode, type Payer, type TestChannel } from "../../support/world.ts";
import { Client, plainAnswer, type SocketPlace, serveSockets, UNIT, until } from "./socketStage.ts";

const world = useWorld();
let place: SocketPlace | undefined;

afterEach(async () => {
	await place?.server.stop();
	place = undefined;
});

async function serve(options: Parameters<typeof serveSockets>[2] = {}, count = 3): Promise<SocketPlace> {
	place = await serveSockets(
		world,
		async ({ send }) => {
			for (let at = 1; at <= count; at++) await send(`message ${at}`);
		},
		{ challengeInBand: true, ...options },
	);
	return place;
}

/** The challenge of the last `payment-required`. */
async function challenged(client: Client, times = 1): Promise<Challenge> {
	await until(`payment is asked for, ${times} times`, () => client.said("payment-required").length >= times);
	const { challenges } = client.said("payment-required")[times - 1]?.data ?? {};
	const [first] = (challenges as string[]).flatMap((value) => parseChallenges(value));
	if (first === undefined) throw new Error("no challenge");
	return first.challenge;
}

async function opened({ server }: SocketPlace): Promise<Readonly<{ payer: Payer; channel: TestChannel }>> {
	const payer = await world.payer();
	return { payer, channel: await server.open(payer, {}, "/chat") };
}

describe("a client without a header", () => {
	it("gets its challenge first, opens a channel, pays, and reads", async () => {
		const at = await serve();
		const payer = await world.payer();
		const channel = payer.channel(at.server.payee);
		const client = new Client(at.server);
		const challenge = await challenged(client);
		expect(client.frames).toHaveLength(1);
		expect(client.said("payment-required")[0]?.data.problem).toMatchObject({ type: problemType("payment-required") });
		client.authorize(await payer.open(challenge, channel, { deposit: DEPOSIT }));
		await until("it is open", () => client.receipts.length === 1);
		expect(client.receipts).toEqual([{ isAdmitted: false, acceptedCumulative: 0n, spent: 0n }]);
		client.authorize(await payer.voucher(challenge, channel, 3n * UNIT));
		expect((await client.closed).code).toBe(1000);
		expect(client.messages).toHaveLength(3);
		expect(client.receipts.map(({ isAdmitted }) => isAdmitted)).toEqual([false, true, false]);
		expect(await at.server.amounts(channel)).toEqual({
			acceptedCumulative: 3n * UNIT,
			spent: 3n * UNIT,
			reserved: 0n,
		});
	});

	it("may be the platform's own WebSocket", async () => {
		const at = await serve();
		const { payer, channel } = await opened(at);
		const socket = new WebSocket(`${at.server.url.replace("http", "ws")}/chat`);
		const said: { event: string; data: { challenges?: string[] } }[] = [];
		const closed = Promise.withResolvers<number>();
		socket.onclose = ({ code }) => closed.resolve(code);
		socket.onmessage = async ({ data }) => {
			const message = JSON.parse(data);
			said.push(message);
			const [challenge] = parseChallenges(message.data.challenges?.[0] ?? "");
			if (challenge === undefined) return;
			const credential = encode(await payer.voucher(challenge.challenge, channel, 3n * UNIT));
			socket.send(JSON.stringify({ event: "payment-authorization", data: credential }));
		};
		expect(await closed.promise).toBe(1000);
		expect(said.map(({ event }) => event)).toEqual([
			...["payment-required", "payment-receipt", "message", "message", "message", "payment-receipt"],
		]);
		expect(await at.server.amounts(channel)).toMatchObject({ spent: 3n * UNIT, reserved: 0n });
	});

	it("may try again with a fresh challenge, but not for ever", async () => {
		const at = await serve();
		const client = new Client(at.server);
		for (let tries = 1; tries <= 6; tries++) {
			await challenged(client, tries);
			client.authorize("Payment nonsense");
		}
		expect((await client.closed).code).toBe(4402);
		expect(client.said("payment-required").at(-1)?.data.problem).toMatchObject({
			type: problemType("malformed-credential"),
		});
	});

	it("is not waited for longer than it may take", async () => {
		const at = await serve({ payWithinMs: 50 });
		const client = new Client(at.server);
		expect((await client.closed).code).toBe(4402);
		await until("it is let go of", () => at.sockets.size === 0);
	});

	it("may not speak to the application before it has paid", async () => {
		const at = await serve();
		const client = new Client(at.server);
		await challenged(client);
		client.send("message", "hello");
		expect((await client.closed).code).toBe(1008);
	});

	it("may leave before it has paid, or while its payment is looked at", async () => {
		const at = await serve();
		const { payer, channel } = await opened(at);
		const client = new Client(at.server);
		client.authorize(await payer.voucher(await challenged(client), channel, 3n * UNIT));
		client.ws.terminate();
		const other = new Client(at.server);
		await challenged(other);
		other.ws.close();
		await until("both are let go of", () => at.sockets.size === 0);
		expect(await at.server.amounts(channel)).toMatchObject({ reserved: 0n });
	});

	it("is one of a bounded number: the next one gets the 402 itself", async () => {
		const at = await serve({ maxUnpaid: 1 });
		const first = new Client(at.server);
		await challenged(first);
		expect((await plainAnswer(new Client(at.server))).status).toBe(402);
		first.ws.terminate();
	});
});

describe("an Idempotency-Key", () => {
	it("is good for one socket: what was served to its end is not charged again, by header or by message (I6)", async () => {
		const at = await serve();
		const { payer, channel } = await opened(at);
		const key = { "Idempotency-Key": "the same" };
		const draft = await payer.voucher(await at.server.challenge("/chat"), channel, 9n * UNIT);
		const first = new Client(at.server, draft, key);
		expect((await first.closed).code).toBe(1000);
		expect((await plainAnswer(new Client(at.server, draft, key))).status).toBe(409);
		const third = new Client(at.server);
		await challenged(third);
		third.authorize(draft, "the same");
		await until("it is refused", () => third.said("payment-required").length === 2);
		expect(third.said("payment-required")[1]?.data).toMatchObject({ challenges: [], problem: { status: 409 } });
		third.ws.terminate();
		expect(await at.server.amounts(channel)).toMatchObject({ spent: 3n * UNIT, reserved: 0n });
	});

	it("lets a socket take the place of the one that was lost, though its voucher is the same (D16)", async () => {
		place = await serveSockets(
			world,
			async ({ send, signal }) => {
				await send("one");
				await once(signal, "abort");
			},
			{ challengeInBand: true },
		);
		const { payer, channel } = await opened(place);
		const key = { "Idempotency-Key": "the same" };
		const draft = await payer.voucher(await place.server.challenge("/chat"), channel, 9n * UNIT);
		const first = new Client(place.server, draft, key);
		await until("the message is there", () => first.messages.length === 1);
		const second = new Client(place.server, draft, key);
		expect((await first.closed).code).toBe(4409);
		await until("the other message is there", () => second.messages.length === 1);
		second.ws.terminate();
		await until("both are let go of", () => place?.sockets.size === 0);
		expect(await place.server.amounts(channel)).toMatchObject({ spent: 2n * UNIT, reserved: 0n });
	});
});
