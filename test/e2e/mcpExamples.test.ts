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
import { clientFor } from "../client/support.ts";
import { expectPaid, keyOf } from "../support/programs.ts";

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
