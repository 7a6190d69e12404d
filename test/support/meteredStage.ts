/** Metered pages behind both faces of one engine, and a payer who reads them. */
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { expect } from "vitest";
import type { Challenge, Receipt } from "../../src/protocol/index.ts";
import {
	available,
	type EvmPrice,
	type Meter,
	meterOf,
	type PaymentEngine,
	type Piece,
	paid,
	reserved,
} from "../../src/server/index.ts";
import { FACES, type Face } from "./faces.ts";
import { type Answer, type Send, send } from "./http.ts";
import { type PaidServer, type Routes, standardRoutes } from "./paidServer.ts";
import { encode, type Payer, type TestChannel } from "./payer.ts";
import { merged, topUpByAuthorization } from "./sessionDrafts.ts";
import { StreamReader } from "./streamReader.ts";
import type { World } from "./world.ts";

/** What a page sees of its request. */
export type Asked = Readonly<{ query: URLSearchParams; header(name: string): string | undefined }>;

export type MeteredPage = Readonly<{
	metered: EvmPrice["metered"];
	/** Base units a unit; 1 unless it is given. */
	price?: bigint;
	serve(meter: Meter, asked: Asked): AsyncIterable<Piece> | Response | Promise<AsyncIterable<Piece> | Response>;
}>;

/** Pages by their path, for `GET` and `POST`. */
export class MeteredSite {
	readonly #pages: Readonly<Record<string, MeteredPage>>;
	#fetch: ReturnType<typeof serve> | undefined;

	constructor(pages: Readonly<Record<string, MeteredPage>>) {
		this.#pages = pages;
	}

	readonly routes: Routes = async (app, kit) => {
		await standardRoutes(app, kit);
		for (const [url, { serve, ...price }] of Object.entries(this.#pages)) {
			app.route({
				method: ["GET", "POST"],
				url,
				config: { payment: priceOf(price) },
				handler: (request) => {
					const { searchParams: query } = new URL(request.url, "http://localhost");
					return serve(meterOf(request.payment), { query, header: (name) => request.headers[name]?.toString() });
				},
			});
		}
	};

	/** Serves the fetch face on a socket of its own; resolves to its origin. */
	async listen(engine: PaymentEngine): Promise<string> {
		const app = new Hono();
		for (const [path, { serve, ...price }] of Object.entries(this.#pages)) {
			const handler = paid(engine, priceOf(price), (request, { meter }) => {
				const { searchParams: query } = new URL(request.url);
				return serve(meter, { query, header: (name) => request.headers.get(name) ?? undefined });
			});
			app.all(path, (c) => handler(c.req.raw));
		}
		app.onError((_, c) => c.text("the application failed", 500));
		const listening = Promise.withResolvers<AddressInfo>();
		this.#fetch = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }, listening.resolve);
		return `http://127.0.0.1:${(await listening.promise).port}`;
	}

	async stop(): Promise<void> {
		const server = this.#fetch;
		if (server === undefined) return;
		if ("closeAllConnections" in server) server.closeAllConnections();
		await new Promise((resolve) => server.close(resolve));
	}
}

function priceOf({ metered, price = 1n }: Omit<MeteredPage, "serve">) {
	return { price, unitType: "piece", metered: metered as true };
}

/** A payer with a channel, at one face of a site. */
export class MeteredPayer {
	readonly channel: TestChannel;
	readonly #payer: Payer;
	readonly #server: PaidServer;
	readonly #origin: string;
	readonly #challenge: Challenge;

	private constructor(
		parts: Readonly<{ payer: Payer; server: PaidServer; origin: string; channel: TestChannel; challenge: Challenge }>,
	) {
		this.#payer = parts.payer;
		this.#server = parts.server;
		this.#origin = parts.origin;
		this.channel = parts.channel;
		this.#challenge = parts.challenge;
	}

	static async open(payer: Payer, server: PaidServer, origin: string, deposit: bigint): Promise<MeteredPayer> {
		const channel = await server.open(payer, { deposit });
		return new MeteredPayer({ payer, server, origin, channel, challenge: await server.challenge("/session") });
	}

	voucher(amount: bigint) {
		return this.#payer.voucher(this.#challenge, this.channel, amount);
	}

	/** Begins to read a page with a voucher. */
	async read(
		path: string,
		amount: bigint,
		options: Omit<Send, "authorization" | "signal"> = {},
	): Promise<StreamReader> {
		return StreamReader.open(this.#origin, path, await this.voucher(amount), options);
	}

	/** Reads a page at once. */
	async get(path: string, amount: bigint, options: Omit<Send, "authorization"> = {}): Promise<Answer> {
		return send(this.#origin, path, { ...options, authorization: encode(await this.voucher(amount)) });
	}

	/** A voucher beside the stream (D11). */
	async pay(path: string, amount: bigint): Promise<Answer> {
		const answer = await this.get(path, amount, { method: "HEAD" });
		expect(answer.status).toBe(200);
		return answer;
	}

	/** A voucher with a deposit that it needs, in one request beside the stream. */
	async payWithTopUp(path: string, amount: bigint, more: bigint): Promise<Answer> {
		const topUp = await topUpByAuthorization(this.#payer, this.#challenge, this.channel, more);
		const authorization = encode(merged(await this.voucher(amount), topUp));
		return send(this.#origin, path, { method: "HEAD", authorization });
	}

	/** A deposit alone. */
	async topUp(path: string, more: bigint): Promise<void> {
		const draft = await topUpByAuthorization(this.#payer, this.#challenge, this.channel, more);
		const answer = await send(this.#origin, path, { authorization: encode(draft) });
		expect(answer.status, answer.text).toBe(200);
	}

	/** Closes the channel by the client's own decision. */
	async close(path: string, amount: bigint): Promise<Answer> {
		const draft = await this.#payer.close(this.#challenge, this.channel, amount);
		return send(this.#origin, path, { authorization: encode(draft) });
	}

	/** The ledger has settled on these amounts, with nothing reserved, and I1 holds. */
	async expectLedger(spent: bigint, acceptedCumulative?: bigint): Promise<void> {
		await expect
			.poll(() => this.#server.amounts(this.channel), { timeout: 10_000 })
			.toMatchObject({ spent, reserved: 0n, ...(acceptedCumulative !== undefined && { acceptedCumulative }) });
		await this.expectI1();
	}

	/** I1: `0 <= spent + reserved <= acceptedCumulative <= deposit`. */
	async expectI1(): Promise<void> {
		const channel = await this.#server.ledger(this.channel);
		if (channel === undefined) throw new Error("the ledger has no such channel");
		expect(channel.spent + reserved(channel)).toBeGreaterThanOrEqual(0n);
		expect(available(channel)).toBeGreaterThanOrEqual(0n);
		expect(channel.acceptedCumulative).toBeLessThanOrEqual(channel.deposit);
	}
}

export type MeteredStage = Readonly<{
	server: PaidServer;
	/** A new channel of a payer, at one face. */
	payer(face: Face, deposit?: bigint): Promise<MeteredPayer>;
	origin(face: Face): string;
	stop(): Promise<void>;
}>;

/** One server, both faces. `world.stop` stops the rest. */
export async function meteredStage(
	world: World,
	pages: Readonly<Record<string, MeteredPage>>,
	options: Parameters<World["serve"]>[0] = {},
): Promise<MeteredStage> {
	const site = new MeteredSite(pages);
	const server = await world.serve({ routes: site.routes, ...options });
	const fetchOrigin = await site.listen(server.engine);
	const payer = await world.payer();
	const origin = (face: Face) => (face === "fastify" ? server.url : fetchOrigin);
	return {
		server,
		origin,
		payer: (face, deposit = 10_000n) => MeteredPayer.open(payer, server, origin(face), deposit),
		stop: () => site.stop(),
	};
}

/** The units that a receipt says this request was charged for. */
export function unitsOf(receipt: Receipt | undefined): number | undefined {
	return receipt?.intent === "session" ? receipt.units : undefined;
}

/** What a receipt says was charged in all, in base units. */
export function spentOf(receipt: Receipt | undefined): bigint | undefined {
	return receipt?.intent === "session" ? receipt.spent : undefined;
}

export { FACES };
