/** The two MCP examples, each in a process of its own: over Streamable HTTP, and the server over a pipe as its client starts it. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { PAYER_CAPABILITY, payMcp } from "../../src/client/mcp.ts";
import { readBalance } from "../../src/escrow/index.ts";
import { CREDENTIAL_META } from "../../src/protocol/index.ts";
import { clientFor } from "../client/support.ts";
import { expectPaid, keyOf, serve } from "../support/programs.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const SERVER = join(ROOT, "examples/mcp/server.ts");
const NODE_ARGS = ["--conditions=sluice-source"];

describe("the MCP examples", () => {
	let chain: LocalChain;
	let folder: string;

	beforeAll(async () => {
		chain = await startChain();
		folder = await mkdtemp(join(tmpdir(), "sluice-mcp-"));
	});
	afterAll(async () => {
		await chain?.stop();
		await rm(folder, { recursive: true, force: true });
	});

	it("run as they stand over Streamable HTTP: ten quotes over one channel, one charge, one close", async () => {
		const client = join(ROOT, "examples/mcp/client.ts");
		const programs = { server: SERVER, client, folder, nodeArgs: NODE_ARGS };
		const printed = await expectPaid(chain, programs, { quote: /ABC: 42/g, report: /7 pages, paid by 0x/g });
		expect(printed).toContain("tools: quote, report, help");
		expect(printed).toContain("spent so far: 1000");
	});

	it("take _meta at the root over HTTP, and make a server for nobody who does not begin", async () => {
		const account = privateKeyToAccount(generatePrivateKey());
		const own = await mkdtemp(join(folder, "root-"));
		const { url, stop } = await serve(chain, {
			server: SERVER,
			folder: own,
			nodeArgs: NODE_ARGS,
			payer: account.address,
		});
		const post = (message: object | string, session?: string) =>
			fetch(url, {
				method: "POST",
				headers: {
					"content-type": "application/json",
					accept: "application/json, text/event-stream",
					...(session !== undefined && { "mcp-session-id": session }),
				},
				body: typeof message === "string" ? message : JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }),
			});
		try {
			const call = { method: "tools/call", params: { name: "report", arguments: {} } };
			expect((await post(call)).status).toBe(400);
			expect((await post(call, "nobody's")).status).toBe(404);
			expect((await post("{")).status).toBe(400);
			expect((await fetch(url, { headers: { accept: "text/event-stream" } })).status).toBe(400);
			const clientInfo = { name: "test", version: "1.0.0" };
			const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo };
			const begun = await post({ method: "initialize", params });
			const session = begun.headers.get("mcp-session-id") ?? "";
			expect(session).not.toBe("");
			// Read as a credential: what is wrong with it is said by code -32602, and the SDK does not refuse the message.
			const answer = await post({ ...call, _meta: { [CREDENTIAL_META]: { challenge: 1 } } }, session);
			const text = await answer.text();
			expect(text).toContain('"code":-32602');
			expect(text).toContain("malformed-credential");
		} finally {
			stop();
		}
	});

	it("pay for a server that is started over a pipe, which the policy knows by a name", async () => {
		const payee = chain.account(2);
		const account = privateKeyToAccount(generatePrivateKey());
		const { token, escrow } = await deployContracts(chain, chain.account(0), account.address, 30_000n);
		const payer = clientFor({ chain, token, escrow }, account, ["quotes.localhost"], {
			maxDeposit: 20_000n,
			maxPrice: 2_500n,
		});
		const transport = new StdioClientTransport({
			command: process.execPath,
			args: ["--disable-warning=ExperimentalWarning", ...NODE_ARGS, SERVER],
			cwd: await mkdtemp(join(folder, "pipe-")),
			env: {
				RPC_URL: chain.url,
				CHAIN_ID: String(chain.chainId),
				ESCROW: escrow,
				TOKEN: token,
				PAYEE_KEY: keyOf(payee),
				SECRET: "an example of a secret, 32 bytes long",
			},
		});
		const client = new Client({ name: "test", version: "1.0.0" }, { capabilities: { experimental: PAYER_CAPABILITY } });
		await client.connect(transport);
		try {
			const tools = payMcp(payer, client, { name: "quotes" });
			const { content, receipt } = await tools.callTool({ name: "quote", arguments: { symbol: "ABC" } });
			expect(content).toEqual([{ type: "text", text: "ABC: 42" }]);
			expect(receipt).toMatchObject({ spent: "100" });
			expect(await tools.callTool({ name: "quote", arguments: { symbol: "" } })).toMatchObject({ isError: true });
			await tools.callTool({ name: "report" });
			await payer.close();
			expect(await readBalance(chain.client, token, payee.address)).toBe(2_600n);
			expect(await readBalance(chain.client, token, account.address)).toBe(27_400n);
		} finally {
			await client.close();
		}
	});
});
