/** One site behind both faces of one engine: what holds for a payment must hold whichever took it. */
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import {
	decodeReceipt,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	parseChallenges,
	parseProblem,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";
import type { Payment, PriceConfig } from "../../src/server/index.ts";
import { type PaymentEngine, paid } from "../../src/server/index.ts";
import { type Answer, type Send, send } from "./http.ts";
import type { Routes } from "./paidServer.ts";
import { type Draft, encode } from "./payer.ts";

/** What a page sees of its request, whichever face took it. */
export type Seen = Readonly<{
	method: string;
	query: string;
	header(name: string): string | undefined;
	body: string;
}>;

/** What a page answers. A stream is given as what it is made of. */
export type Served = Readonly<{
	status?: number;
	headers?: readonly (readonly [string, string])[];
	body?: string | Uint8Array | AsyncIterable<string> | null;
}>;

export type PagePrice = PriceConfig | readonly PriceConfig[];

export type Page = Readonly<{
	price: PagePrice | ((seen: Seen) => PagePrice | Promise<PagePrice>);
	serve(seen: Seen, payment: Payment): Served | Promise<Served>;
}>;

export const FACES = ["fastify", "fetch"] as const;
export type Face = (typeof FACES)[number];

/** Pages by their path, for every method. Their handlers are counted, and can be held. */
export class Site {
	readonly pages: Readonly<Record<string, Page>>;
	readonly #calls = new Map<string, number>();
	readonly #gates = new Map<string, { entered: () => void; open: Promise<void> }>();
	#fetch: ReturnType<typeof serve> | undefined;

	constructor(pages: Readonly<Record<string, Page>>) {
		this.pages = pages;
	}

	/** How often a page was served, by either face. */
	calls(path: string): number {
		return this.#calls.get(path) ?? 0;
	}

	/** Makes a page wait. `entered` resolves when it was asked, `release` lets it go on. */
	hold(path: string): Readonly<{ entered: Promise<void>; release: () => void }> {
		const entered = Promise.withResolvers<void>();
		const open = Promise.withResolvers<void>();
		this.#gates.set(path, { entered: entered.resolve, open: open.promise });
		return {
			entered: entered.promise,
			release: () => {
				this.#gates.delete(path);
				open.resolve();
			},
		};
	}

	/** For Fastify. */
	readonly routes: Routes = (app) => {
		for (const [path, page] of Object.entries(this.pages)) {
			const { price } = page;
			app.route({
				method: ["GET", "POST", "PUT", "PATCH", "DELETE"],
				url: path,
				config: {
					payment:
						typeof price === "function"
							? (request) => price(seenByFastify(request))
							: (price as Exclude<typeof price, (seen: Seen) => unknown>),
				},
				handler: async (request, reply) => {
					const { payment } = request;
					if (payment === null) throw new Error("a paid handler without a payment");
					const { status = 200, headers = [], body = null } = await this.#serve(path, seenByFastify(request), payment);
					reply.code(status);
					for (const [name, value] of headers) reply.header(name, value);
					if (isPieces(body)) return reply.send(Readable.from(body, { objectMode: false }));
					return reply.send(body instanceof Uint8Array ? Buffer.from(body) : (body ?? undefined));
				},
			});
		}
	};

	/** For everything that takes Web-standard handlers. */
	handlers(engine: PaymentEngine, options?: Parameters<typeof paid>[3]) {
		return Object.fromEntries(
			Object.entries(this.pages).map(([path, { price }]) => {
				const handler = paid(
					engine,
					typeof price === "function" ? async (request) => price(await seenByFetch(request)) : price,
					async (request, payment) => {
						const {
							status = 200,
							headers = [],
							body = null,
						} = await this.#serve(path, await seenByFetch(request), payment);
						const fields = new Headers();
						for (const [name, value] of headers) fields.append(name, value);
						return new Response(bodyOf(body), { status, headers: fields });
					},
					{ route: path, ...options },
				);
				return [path, handler] as const;
			}),
		);
	}

	/** Serves the fetch face on a socket of its own; resolves to its origin. */
	async listen(engine: PaymentEngine): Promise<string> {
		const app = new Hono();
		for (const [path, handler] of Object.entries(this.handlers(engine))) app.all(path, (c) => handler(c.req.raw));
		app.onError((error, c) => {
			return error instanceof HTTPException ? error.getResponse() : c.text("the application failed", 500);
		});
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

	async #serve(path: string, seen: Seen, payment: Payment): Promise<Served> {
		this.#calls.set(path, this.calls(path) + 1);
		const gate = this.#gates.get(path);
		gate?.entered();
		await gate?.open;
		const page = this.pages[path];
		if (page === undefined) throw new Error(`there is no page ${path}`);
		return page.serve(seen, payment);
	}
}

/** Pays for a page of an origin with a draft. */
export function payAt(
	origin: string,
	path: string,
	draft: Draft,
	options: Omit<Send, "authorization"> = {},
): Promise<Answer> {
	return send(origin, path, { ...options, authorization: encode(draft) });
}

type FastifyRequestLike = Readonly<{
	method: string;
	url: string;
	headers: Readonly<Record<string, string | string[] | undefined>>;
	body: unknown;
}>;

function seenByFastify({ method, url, headers, body }: FastifyRequestLike): Seen {
	return {
		method,
		query: new URL(url, "http://localhost").search,
		header: (name) => headers[name]?.toString(),
		body: body === undefined || body === null ? "" : JSON.stringify(body),
	};
}

async function seenByFetch(request: Request): Promise<Seen> {
	return {
		method: request.method,
		query: new URL(request.url).search,
		header: (name) => request.headers.get(name) ?? undefined,
		body: await request.text(),
	};
}

function isPieces(body: Served["body"]): body is AsyncIterable<string> {
	return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}

function bodyOf(body: Served["body"]): string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null {
	if (isPieces(body)) return Readable.toWeb(Readable.from(body, { objectMode: false })) as ReadableStream<Uint8Array>;
	return body instanceof Uint8Array ? new Uint8Array(body) : (body ?? null);
}

/** The answer of a handler that was called without a socket. */
export async function answerOf(response: Response): Promise<Answer> {
	const { status, headers } = response;
	const text = await response.text();
	const header = (name: string) => headers.get(name) ?? undefined;
	const receipt = header(PAYMENT_RECEIPT);
	let json: unknown;
	try {
		json = JSON.parse(text);
	} catch {
		json = undefined;
	}
	return {
		status,
		headers: Object.fromEntries(headers),
		header,
		text,
		json,
		problem: header("content-type") === PROBLEM_CONTENT_TYPE ? parseProblem(json) : undefined,
		receipt: receipt === undefined ? undefined : decodeReceipt(receipt),
		challenges: parseChallenges(header(WWW_AUTHENTICATE) ?? "").map(({ challenge }) => challenge),
	};
}
