import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { isInitializeRequest } from "@modelcontextprotocol/sdk/types.js";
import { LevelStore, PaymentEngine } from "sluice/server";
import { McpPayments, nestMetaLines, overHttp, paidTool } from "sluice/server/mcp";
import { createPublicClient, type Hex, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { z } from "zod";

const env = process.env as Record<"RPC_URL" | "CHAIN_ID" | "ESCROW" | "TOKEN" | "PAYEE_KEY" | "SECRET", string>;

const engine = await PaymentEngine.start({
	realm: "tools.example.com",
	client: createPublicClient({ transport: http(env.RPC_URL) }),
	chainId: Number(env.CHAIN_ID),
	escrow: env.ESCROW,
	currency: env.TOKEN,
	account: privateKeyToAccount(env.PAYEE_KEY as Hex), // receives the money, pays the gas
	secrets: [env.SECRET], // at least 32 bytes
	store: await LevelStore.open({ folder: "./mcp-channels" }),
	limits: { minSponsoredDeposit: 10_000n },
});
const payments = new McpPayments(engine);

function tools(): McpServer {
	const server = new McpServer({ name: "quotes", version: "1.0.0" });
	const quote = { description: "A quote, 0.0001 USDC a call.", inputSchema: { symbol: z.string() } };
	paidTool(server, payments, "quote", quote, { price: "100", suggestedDeposit: "20000" }, ({ symbol }) => {
		if (symbol === "") throw new Error("name a symbol"); // costs nothing
		return { content: [{ type: "text", text: `${symbol}: 42` }] };
	});
	const report = { description: "A report, 0.0025 USDC, each by a transfer of its own." };
	paidTool(server, payments, "report", report, { price: "2500", intent: "charge" }, ({ payment }) => ({
		content: [{ type: "text", text: `7 pages, paid by ${payment.txHash}` }],
	}));
	server.registerTool("help", {}, () => ({ content: [{ type: "text", text: "quote, report" }] })); // free
	return server;
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
	let body = "";
	for await (const chunk of request.setEncoding("utf8")) {
		body += chunk;
		if (body.length > 1_000_000) throw new RangeError("the request is too long");
	}
	return JSON.parse(body);
}

if (process.env.PORT === undefined) {
	// Started by its client, which reads its output: so nothing else is printed there.
	const pipe = new StdioServerTransport(process.stdin.pipe(nestMetaLines()));
	await tools().connect(payments.over(pipe));
} else {
	const sessions = new Map<string, StreamableHTTPServerTransport>(); // the oldest first
	const begin = async () => {
		const transport = new StreamableHTTPServerTransport({
			sessionIdGenerator: randomUUID,
			onsessioninitialized: (id) => void sessions.set(id, transport),
			onsessionclosed: (id) => void sessions.delete(id),
		});
		const [oldest] = sessions; // of clients that are gone without a word
		if (oldest !== undefined && sessions.size >= 1_000 && sessions.delete(oldest[0])) await oldest[1].close();
		await tools().connect(payments.over(transport as Transport));
		return transport;
	};
	const listener = createServer(async (request, response) => {
		const body = request.method === "POST" ? await bodyOf(request).catch(() => undefined) : undefined;
		if (request.method === "POST" && body === undefined) return void response.writeHead(400).end();
		const session = request.headers["mcp-session-id"];
		const known = session === undefined ? undefined : sessions.get(String(session));
		if (known !== undefined) return overHttp(known, request, response, body);
		// Anything else would make a server that nobody can name again.
		if (session !== undefined || !isInitializeRequest(body))
			return void response.writeHead(session === undefined ? 400 : 404).end();
		const transport = await begin();
		await overHttp(transport, request, response, body);
		if (transport.sessionId === undefined) await transport.close();
	});
	listener.listen(Number(process.env.PORT), "127.0.0.1", () => {
		console.log(`http://127.0.0.1:${(listener.address() as AddressInfo).port}/mcp`);
	});
}
