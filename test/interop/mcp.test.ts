/** mppx's MCP client and server, with the official SDK between them and ours: paid by `evm` charge, the intent that both have. */

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { evm as evmClient } from "mppx/client";
import { McpClient } from "mppx/mcp/client";
import { Transport as McpTransport } from "mppx/mcp/server";
import { evm as evmServer, Mppx as MppxServer } from "mppx/server";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { payMcp } from "../../src/client/mcp.ts";
import { paidTool } from "../../src/server/mcp/index.ts";
import { clientFor } from "../client/support.ts";
import { type McpStage, mcpStage } from "../support/mcpStage.ts";
import { createWorld, FUNDS, type PaidServer, PRICE, type World } from "../support/world.ts";
import { REALM, SECRET, tokenMetadata } from "./mppx.ts";

let world: World;
let server: PaidServer;
let mcp: McpStage;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	mcp = await mcpStage(
		() => server.engine,
		(tools, payments) => {
			const price = { price: PRICE, intent: "charge" } as const;
			paidTool(tools, payments, "report", {}, price, () => ({ content: [{ type: "text", text: "7 pages" }] }));
			paidTool(tools, payments, "either", {}, [{ price: PRICE }, price], ({ payment }) => ({
				content: [{ type: "text", text: payment.intent }],
			}));
		},
	);
});
afterAll(async () => {
	await mcp?.stop();
	await world?.stop();
});

describe("mppx's MCP client", () => {
	it("pays for a tool of ours: -32042, credential, result with a receipt; the price has moved", async () => {
		const payer = await world.payer();
		const client = new Client({ name: "mppx", version: "1.0.0" });
		await client.connect(new StreamableHTTPClientTransport(new URL(mcp.url)) as Transport);
		const paying = McpClient.wrap(client, {
			methods: [
				evmClient.charge({
					account: payer.account,
					authorization: await tokenMetadata(world),
					networks: [world.chain.chainId],
					currencies: [world.token],
					maxAtomicAmount: "1000",
				}),
			],
		});
		const result = await paying.callTool({ name: "report" });
		expect(result.content).toEqual([{ type: "text", text: "7 pages" }]);
		expect(result.receipt).toMatchObject({ status: "success", method: "evm", challengeId: expect.any(String) });
		expect(await world.balance(payer.address)).toBe(FUNDS - PRICE);
		// Of the two that are offered it takes the one that it has.
		const either = await paying.callTool({ name: "either" });
		expect(either.content).toEqual([{ type: "text", text: "charge" }]);
		expect(await world.balance(payer.address)).toBe(FUNDS - 2n * PRICE);
		await client.close();
	});
});

describe("mppx's MCP server", () => {
	it("difference: can't ask for an evm charge over its own MCP transport, so there is nothing to pay", async () => {
		const recipient = privateKeyToAccount(generatePrivateKey()).address;
		const mppx = MppxServer.create({
			realm: REALM,
			secretKey: SECRET,
			transport: McpTransport.mcpSdk(),
			methods: [
				evmServer.charge({
					currency: world.token,
					chainId: world.chain.chainId,
					decimals: 6,
					authorization: await tokenMetadata(world),
					recipient,
					settle: async () => ({ reference: `0x${"00".repeat(32)}` }),
				}),
			],
		});
		const tools = new McpServer({ name: "mppx", version: "1.0.0" });
		tools.registerTool("report", {}, async (extra) => {
			const outcome = await mppx.evm.charge({ amount: "0.0001" })(extra as never);
			throw outcome.status === 402 ? outcome.challenge : new Error("it was not asked for");
		});
		const [near, far] = InMemoryTransport.createLinkedPair();
		await tools.connect(far as Transport);
		const client = new Client({ name: "ours", version: "1.0.0" });
		await client.connect(near as Transport);
		const payer = await world.payer();
		const agent = clientFor(world, payer.account, ["mppx.localhost"]);
		const result = await payMcp(agent, client, { name: "mppx" }).callTool({ name: "report" });
		// It wants a URL for another scheme's header, which a tool call has not.
		expect(result).toMatchObject({ isError: true, content: [{ text: expect.stringMatching(/resource[\s\S]*url/) }] });
		expect(result.receipt).toBeUndefined();
		await client.close();
	});
});
