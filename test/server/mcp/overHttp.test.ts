/** What is said of the way by which a message came: by its socket, not by what the client writes. */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { arrivalOf } from "../../../src/server/mcp/arrival.ts";
import { McpPayments, overHttp, paidTool } from "../../../src/server/mcp/index.ts";
import { serverOf } from "../../support/mcpStage.ts";
import { createWorld, type PaidServer, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;
beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
});
afterAll(() => world?.stop());

type Handle = (transport: StreamableHTTPServerTransport, request: IncomingMessage, response: ServerResponse) => void;

/** What a call to a paid tool is answered with over plain HTTP by a client that says `Host: localhost`. */
async function answerTo(handle: Handle) {
	const payments = new McpPayments(server.engine);
	const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, enableJsonResponse: true });
	const mcp = serverOf(payments, (one) => {
		paidTool(one, payments, "work", {}, { price: 100n }, () => ({ content: [] }));
	});
	await mcp.connect(payments.over(transport as Transport));
	const http = createServer((request, response) => handle(transport, request, response));
	http.listen(0, "127.0.0.1");
	await once(http, "listening");
	let session: string | null = null;
	const post = async (message: object) => {
		const response = await fetch(`http://localhost:${(http.address() as AddressInfo).port}/mcp`, {
			method: "POST",
			headers: {
				"content-type": "application/json",
				accept: "application/json, text/event-stream",
				...(session !== null && { "mcp-session-id": session }),
			},
			body: JSON.stringify({ jsonrpc: "2.0", ...message }),
		});
		session ??= response.headers.get("mcp-session-id");
		return (await response.json()) as { error?: { code: number; data: { httpStatus: number; challenges?: [] } } };
	};
	try {
		const clientInfo = { name: "test", version: "1.0.0" };
		await post({
			id: 1,
			method: "initialize",
			params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo },
		});
		return (await post({ id: 2, method: "tools/call", params: { name: "work", arguments: {} } })).error;
	} finally {
		await mcp.close();
		http.closeAllConnections();
		http.close();
	}
}

describe("a paid call over plain HTTP", () => {
	it("is refused without a challenge where nobody says by which socket it came, whatever its Host", async () => {
		const error = await answerTo((transport, request, response) => void transport.handleRequest(request, response));
		expect(error).toMatchObject({ code: -32603, data: { httpStatus: 403 } });
		expect(error?.data.challenges).toBeUndefined();
	});

	it("gets its challenge on this machine, by its socket", async () => {
		const error = await answerTo((transport, request, response) => void overHttp(transport, request, response));
		expect(error).toMatchObject({ code: -32042, data: { httpStatus: 402 } });
	});
});

describe("how a message came", () => {
	const here = new URL("http://localhost/mcp");
	const cases: readonly (readonly [string, object | undefined, URL | undefined, object])[] = [
		["by a pipe, without HTTP", undefined, undefined, { isSecure: false, isLoopback: true }],
		[
			"by HTTPS, as its URL says",
			undefined,
			new URL("https://api.example.com/mcp"),
			{ isSecure: true, isLoopback: false },
		],
		["from elsewhere, with a Host of this machine", undefined, here, { isSecure: false, isLoopback: false }],
		["from elsewhere, by its socket", { remoteAddress: "203.0.113.9" }, here, { isSecure: false, isLoopback: false }],
		["from this machine", { remoteAddress: "::1" }, here, { isSecure: false, isLoopback: true }],
		["over a Unix socket", {}, here, { isSecure: false, isLoopback: true }],
		["over TLS", { remoteAddress: "203.0.113.9", encrypted: true }, here, { isSecure: true, isLoopback: false }],
		[
			"from elsewhere, with an https address in its request line",
			{ remoteAddress: "203.0.113.9" },
			new URL("https://localhost/mcp"),
			{ isSecure: false, isLoopback: false },
		],
	];
	it.each(cases)("%s", async (_how, socket, url, expected) => {
		const extra = url === undefined ? undefined : { requestInfo: { headers: { host: url.host }, url } };
		let came: unknown;
		const hear = async () => {
			came = arrivalOf(extra);
		};
		if (socket === undefined) await hear();
		else await overHttp({ handleRequest: hear }, { socket } as IncomingMessage, {} as ServerResponse);
		expect(came).toEqual(expected);
	});
});
