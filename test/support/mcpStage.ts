/** MCP servers of the official SDK on real sockets, paid for at a test server's engine, and clients for them. */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { McpError } from "@modelcontextprotocol/sdk/types.js";
import { PAYER_CAPABILITY } from "../../src/client/mcp.ts";
import {
	type Challenge,
	CREDENTIAL_META,
	challengeFromRpc,
	credentialToRpc,
	type JsonObject,
	type RpcChallenge,
} from "../../src/protocol/index.ts";
import type { PaymentEngine } from "../../src/server/index.ts";
import { McpPayments, overHttp } from "../../src/server/mcp/index.ts";
import type { Draft } from "./payer.ts";

/** Registers what a server offers. */
export type Register = (server: McpServer, payments: McpPayments) => void;

export type McpStage = Readonly<{
	payments: McpPayments;
	url: string;
	host: string;
	/** A client of its own connection. */
	connect(capabilities?: object): Promise<Client>;
	stop(): Promise<void>;
}>;

/** Streamable HTTP on a real socket; each client gets a server of its own, as the SDK wants it. */
export async function mcpStage(engine: () => PaymentEngine, register: Register): Promise<McpStage> {
	const payments = new McpPayments(engine());
	const sessions = new Map<string, StreamableHTTPServerTransport>();
	const clients: Client[] = [];
	const begin = async () => {
		const transport = new StreamableHTTPServerTransport({
			sessionIdGenerator: randomUUID,
			onsessioninitialized: (id) => void sessions.set(id, transport),
		});
		await serverOf(payments, register).connect(payments.over(transport as Transport));
		return transport;
	};
	const http = createServer(async (request, response) => {
		const known = sessions.get(String(request.headers["mcp-session-id"]));
		await overHttp(known ?? (await begin()), request, response);
	});
	http.listen(0, "127.0.0.1");
	await once(http, "listening");
	const host = `127.0.0.1:${(http.address() as AddressInfo).port}`;
	const url = `http://${host}/mcp`;
	return {
		payments,
		url,
		host,
		async connect(experimental = PAYER_CAPABILITY) {
			const client = new Client({ name: "test", version: "1.0.0" }, { capabilities: { experimental } as never });
			await client.connect(new StreamableHTTPClientTransport(new URL(url)) as Transport);
			clients.push(client);
			return client;
		},
		async stop() {
			await Promise.allSettled(clients.map((client) => client.close()));
			await Promise.allSettled([...sessions.values()].map((transport) => transport.close()));
			http.closeAllConnections();
			http.close();
			await once(http, "close");
		},
	};
}

/** One server of the SDK with all that is registered. */
export function serverOf(payments: McpPayments, register: Register): McpServer {
	const server = new McpServer({ name: "stage", version: "1.0.0" });
	register(server, payments);
	return server;
}

/** The error that a call rejects with, as the SDK has it. */
export async function errorOf(call: Promise<unknown>): Promise<McpError & { data: JsonObject }> {
	try {
		await call;
	} catch (error) {
		return error as McpError & { data: JsonObject };
	}
	throw new Error("it did not reject");
}

/** The challenges of a refused call, in the form in which a header has them; each as it came besides. */
export async function challengesOf(call: Promise<unknown>): Promise<readonly Challenge[]> {
	const { data } = await errorOf(call);
	return (data.challenges as readonly RpcChallenge[]).map(challengeFromRpc);
}

/** A draft as the `_meta` of a call. */
export function paidBy(draft: Draft): { [CREDENTIAL_META]: unknown } {
	return { [CREDENTIAL_META]: credentialToRpc(draft as never) };
}
