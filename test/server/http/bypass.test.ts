import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	createWorld,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type TestChannel,
	type World,
} from "../../support/world.ts";

let world: World;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
});
afterAll(() => world.stop());

const paid = { config: { payment: { price: PRICE } } };

async function firstVoucher(server: PaidServer, path: string) {
	const channel = await server.open(payer, {}, path);
	return { channel, draft: await payer.voucher(await server.challenge(path), channel, PRICE) };
}

async function spent(server: PaidServer, channel: TestChannel): Promise<bigint | undefined> {
	return (await server.amounts(channel))?.spent;
}

describe("a paid route is paid for (I10)", () => {
	it("also where it shares its price with a route that was declared at another time", async () => {
		const declare =
			(path: string): Routes =>
			(app, { handler }) => {
				app.get(path, paid, handler(path));
			};
		const server = await world.serve({ before: declare("/early"), routes: declare("/late") });
		for (const path of ["/early", "/late"]) {
			const { channel, draft } = await firstVoucher(server, path);
			const answer = await server.pay(path, draft);
			expectPaid(answer);
			expect(await spent(server, channel)).toBe(PRICE);
		}
	});

	it("also where something else answers before the payment is looked at", async () => {
		const cached: Routes = (app, { handler }) => {
			app.get(
				"/cached",
				{ ...paid, preValidation: async (_request, reply) => reply.send("from a cache") },
				handler("/cached"),
			);
		};
		const server = await world.serve({ routes: cached });
		const refusal = await server.send("/cached");
		expectRefusal(refusal, "payment-required");
		const channel = payer.channel(server.payee);
		const [challenge] = refusal.challenges;
		if (challenge === undefined) throw new Error("no challenge");
		const answer = await server.pay(
			"/cached",
			await payer.open(challenge, channel, { deposit: 1_000n, amount: PRICE }),
		);
		expectRefusal(answer, "payment-required");
		expect(answer.text).not.toContain("cache");
	});

	it("and a close is answered with its receipt, whatever the route's own answers look like (D11)", async () => {
		const schema = {
			response: { 200: { type: "object", required: ["quote"], properties: { quote: { type: "number" } } } },
		};
		const server = await world.serve({
			routes: (app, { handler }) => {
				app.get(
					"/quote",
					{ ...paid, schema },
					handler("/quote", () => ({ quote: 42 })),
				);
			},
		});
		const { channel, draft } = await firstVoucher(server, "/quote");
		expect((await server.pay("/quote", draft)).json).toEqual({ quote: 42 });
		const closed = await server.pay("/quote", await payer.close(await server.challenge("/quote"), channel, PRICE));
		expect(closed).toMatchObject({ status: 200, json: { channelId: channel.channelId, spent: String(PRICE) } });
	});

	it("and a stream that never begins holds nothing once its client has left (I7)", async () => {
		let destroyed = false;
		const silent = () =>
			new Readable({ read: () => undefined, destroy: (error, done) => done(error) }).on("close", () => {
				destroyed = true;
			});
		const server = await world.serve({
			routes: (app, { handler }) => {
				app.get("/silent", paid, handler("/silent", silent));
			},
		});
		const { channel, draft } = await firstVoucher(server, "/silent");
		const controller = new AbortController();
		const asked = server.pay("/silent", draft, { signal: controller.signal });
		await expect.poll(() => server.amounts(channel)).toMatchObject({ reserved: PRICE });
		controller.abort();
		await expect(asked).rejects.toThrow();
		await expect.poll(() => server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
		await expect.poll(() => destroyed).toBe(true);
	});

	it("and a body that is still coming when the handler's turn is does no harm", async () => {
		const server = await world.serve({
			routes: (app, { handler }) => {
				app.addContentTypeParser("application/x-stream", (_request, body, done) => done(null, body));
				app.post("/upload", paid, handler("/upload"));
			},
		});
		const credential = await payer.open(await server.challenge("/upload", "POST"), payer.channel(server.payee), {
			deposit: 1_000n,
			amount: PRICE,
		});
		const slow = async function* () {
			yield Buffer.from("first, ");
			await new Promise((resolve) => setTimeout(resolve, 100));
			yield Buffer.from("and later the rest");
		};
		const response = await fetch(`${server.url}/upload`, {
			method: "POST",
			headers: { authorization: encode(credential), "idempotency-key": "k", "content-type": "application/x-stream" },
			body: Readable.toWeb(Readable.from(slow())) as ReadableStream,
			duplex: "half",
		} as RequestInit);
		expect(response.status).toBe(400);
		expect(server.calls()).toBe(0);
		expect((await server.send("/upload", { method: "POST" })).status).toBe(402);
	});

	it("at one price by voucher: a second session offer is refused when the route is declared", async () => {
		const start = world.serve({
			routes: (app, { handler }) => {
				app.get("/two", { config: { payment: [{ price: 10n }, { price: 100n }] } }, handler("/two"));
			},
		});
		await expect(start).rejects.toThrow(/GET \/two: payment intent: two prices that a payment can.t be told apart by/);
	});
});
