/** `sluice channels` on a payer's wallet: also beside the agent's own processes, and without any server. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import type { Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PaymentClient, verifyEvidence } from "../../src/client/index.ts";
import { openWallet } from "../../src/client/node/index.ts";
import { transferCall } from "../../src/escrow/index.ts";
import { idOf, recordOf } from "../client/node/walletRecords.ts";
import {
	advance,
	DEPOSIT,
	type Funded,
	fundedChannel,
	GRACE_SECONDS,
	SIGNED,
	until,
	type WalletFolder,
	walletFolder,
} from "../client/recovery/support.ts";
import { createStage, type Stage } from "../client/stage.ts";
import { createWorld, PRICE, RpcProxy, sendFrom, type World } from "../support/world.ts";
import { isSecret, runExposed, sluice, sluiceJson } from "./support.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

it("a payer's channels whose records are damaged are warned of, and the others are listed", async () => {
	const folder = await mkdtemp(join(tmpdir(), "sluice-damaged-"));
	try {
		const store = await openWallet(folder);
		for (const number of [1, 2]) await store.add(recordOf(number), 9);
		await store.close();
		const database = new Level<string, string>(join(folder, "db"));
		await database.put(`c:${idOf(2)}`, "damaged");
		await database.close();
		const { code, value, stderr } = await sluiceJson(["channels", "list", "--wallet", folder]);
		expect(code).toBe(0);
		expect(value).toMatchObject({ channels: [{ channelId: idOf(1) }], count: 1 });
		expect(stderr).toMatch(new RegExp(`warning: channel ${idOf(2)}: its record is damaged`));
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}, 60_000);

describe("a payer's channels whose server is gone", { timeout: 180_000 }, () => {
	let stage: Stage;
	let channel: Funded;
	let folder: WalletFolder;
	let signature: Hex;
	let key: Record<string, string>;
	let wallet: readonly string[];
	let rpc: readonly string[];

	beforeAll(async () => {
		stage = await createStage();
		channel = await fundedChannel(stage, { url: "https://gone.example/quote?api_key=hunter2#hunter3" });
		folder = await walletFolder(channel.record);
		signature = await channel.voucher(SIGNED);
		isSecret(channel.key, signature, "hunter2", "hunter3");
		key = { SLUICE_PAYER_KEY: channel.key };
		wallet = ["--wallet", folder.path];
		rpc = ["--rpc", stage.chain.url];
	});
	afterAll(async () => {
		await stage.stop();
		await folder.remove();
	});

	it("are listed and shown, beside a process that has the wallet, and without a key", async () => {
		const open = await folder.open();
		try {
			const list = await sluiceJson(["channels", "list", ...wallet]);
			expect(list.code, list.stderr).toBe(0);
			expect(list.value).toEqual({
				channels: [
					{
						channelId: channel.channelId,
						chainId: stage.chain.chainId,
						escrow: stage.escrow,
						payer: channel.record.state.payer,
						payee: channel.record.state.payee,
						token: stage.token,
						authorizedSigner: channel.record.state.authorizedSigner,
						status: "open",
						inUse: false,
						deposit: String(DEPOSIT),
						signed: String(SIGNED),
						consumed: String(SIGNED),
						uncertain: "0",
						url: "https://gone.example/quote",
						createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
						recovery: [],
					},
				],
				count: 1,
				deposit: { [stage.token]: String(DEPOSIT) },
				signed: { [stage.token]: String(SIGNED) },
			});
			// The wallet's place may be said by the environment; what was typed for a server counts before that.
			const table = await sluice(["channels", "list", "--table"], { SLUICE_WALLET: folder.path });
			expect(table.stdout).toContain("gone.example");
			const shown = await sluiceJson(["channels", "show", channel.channelId, ...wallet, ...rpc]);
			expect(shown.value).toMatchObject({
				channel: { channelId: channel.channelId, status: "open" },
				recovery: [],
				receipts: [],
				chain: { exists: true, deposit: String(DEPOSIT), settled: "0", rest: String(DEPOSIT), withdrawableAt: null },
			});
		} finally {
			await open.close();
		}
	});

	it("come back to the unit, by request-close and withdraw, which can be run again at any time (I11)", async () => {
		await channel.settle(150n);
		const early = await sluiceJson(["channels", "withdraw", channel.channelId, ...wallet, ...rpc], key);
		expect(early).toMatchObject({ code: 1, value: { channels: [{ error: { code: "CLOSE_NOT_REQUESTED" } }] } });

		const request = ["channels", "request-close", channel.channelId, ...wallet, ...rpc];
		const requested = await sluiceJson(request, key);
		expect(requested.code, requested.stderr).toBe(0);
		expect(requested.value).toMatchObject({ outcome: "done", channels: [{ outcome: "requested", settled: "150" }] });
		expect(requested.stderr).toContain("sluice channels withdraw");
		expect((await sluiceJson(request, key)).value).toMatchObject({ channels: [{ outcome: "found" }] });

		const noWait = ["channels", "withdraw", channel.channelId, "--no-wait", ...wallet, ...rpc];
		expect(await sluiceJson(noWait, key)).toMatchObject({
			code: 3,
			value: { outcome: "pending", channels: [{ outcome: "pending", error: { code: "GRACE_PERIOD" } }] },
		});

		const waiting = sluiceJson(["channels", "withdraw", channel.channelId, "--poll", "1", ...wallet, ...rpc], key);
		await advance(stage, GRACE_SECONDS);
		const withdrawn = await waiting;
		expect(withdrawn.code, withdrawn.stderr).toBe(0);
		expect(withdrawn.value).toMatchObject({
			outcome: "done",
			channels: [{ outcome: "withdrawn", deposit: String(DEPOSIT), settled: "150", refund: String(DEPOSIT - 150n) }],
		});
		expect(await stage.balance(channel.payer.address)).toBe(DEPOSIT - 150n);
		const table = await sluice(["channels", "withdraw", channel.channelId, "--table", ...wallet, ...rpc], key);
		expect(table).toMatchObject({ code: 0, stdout: expect.stringMatching(/withdrawn +1000 +150 +850/) });
	});

	it("leave evidence that a stranger can check, with signatures only for who says so twice", async () => {
		const args = ["channels", "export", channel.channelId, ...wallet, ...rpc];
		const plain = await sluiceJson(args);
		expect(plain.code, plain.stderr).toBe(0);
		expect(verifyEvidence(plain.value)).toMatchObject({ isConsistent: true });
		expect(plain.value).toMatchObject({ wallet: { status: "closed" }, chain: { channel: { finalized: true } } });
		expect(await sluice([...args, "--with-vouchers"], key)).toMatchObject({
			code: 2,
			stderr: expect.stringContaining("--yes"),
		});
		const whole = await runExposed([...args, "--with-vouchers", "--yes"], key);
		expect(JSON.parse(whole.stdout)).toMatchObject({ voucher: { signature } });
		expect(whole.stdout + whole.stderr).not.toContain(channel.key.slice(2));
		const all = await sluiceJson(["channels", "export", ...wallet]);
		expect(all.value).toMatchObject({ count: 1, channels: [{ channel: { channelId: channel.channelId } }] });
	});

	it("are watched, one line for each event, and what is impossible has an exit code", async () => {
		const other = await fundedChannel(stage);
		// A wallet that knows of less than was settled: an old copy, or somebody else with the payer's key.
		const { state } = other.record;
		const old = await walletFolder({ ...other.record, state: { ...state, signed: "100", consumed: "100" } });
		await other.settle(101n);
		const args = ["channels", "watch", "--once", "--wallet", old.path, ...rpc];
		const watched = await sluice(args);
		expect(watched.code).toBe(1);
		const lines = watched.stdout
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line) as { kind: string });
		expect(lines).toMatchObject([
			{ kind: "over-settled", channelId: other.channelId, settled: "101", signed: "100" },
			{ kind: "watching", channels: 1 },
		]);
		await old.remove();
	});

	it("are watched also where the wallet has none yet, and an endpoint of another chain is named first", async () => {
		const { channelId, record, settle } = await fundedChannel(stage);
		await settle(101n);
		const empty = await walletFolder();
		const elsewhere = await RpcProxy.start(stage.chain.url);
		elsewhere.lies = (method) => (method === "eth_chainId" ? { result: "0x1" } : undefined);
		const watching = watch(["--poll", "1", "--wallet", empty.path, "--rpc", elsewhere.url, ...rpc]);
		const store = await empty.open();
		try {
			await watching.until('"channels":0');
			await store.add({ ...record, state: { ...record.state, signed: "100", consumed: "100" } }, 9);
			await watching.until(channelId);
			expect(watching.stdout()).toContain("over-settled");
			expect(watching.stdout()).not.toContain("node-failing");
		} finally {
			await watching.end();
			await store.close();
			await elsewhere.stop();
			await empty.remove();
		}
	});

	it("are not closed by it, which is told of as what it is, and those that were never opened are not in anybody's way", async () => {
		// Below the ports that systems give out: one that a server of our own has left may be another test's by now.
		const gone = "127.0.0.1:2";
		const url = `http://${gone}/quote`;
		const opened = await fundedChannel(stage, { url });
		const { state } = opened.record;
		const unopened = await fundedChannel(stage, { isOpened: false, signed: 0n, url, payer: opened.key });
		const kept = await walletFolder(opened.record, unopened.record);
		isSecret(opened.key);
		await writeFile(join(kept.path, "policy.json"), JSON.stringify(documentOf(stage, gone)));
		const args = ["channels", "close", "--all", "--wallet", kept.path, ...rpc];
		const ran = await sluiceJson(args, { SLUICE_PAYER_KEY: opened.key });
		expect(ran.code, ran.stderr).toBe(1);
		const rows = Object.fromEntries(ran.value.channels.map((row: { channelId: Hex }) => [row.channelId, row]));
		expect(rows[unopened.channelId]).toEqual({ channelId: unopened.channelId, outcome: "unopened" });
		expect(rows[state.channelId]).toMatchObject({ outcome: "failed", error: { code: "SERVER_UNREACHABLE" } });
		expect(ran.stderr).toContain("the server can't be reached (ECONNREFUSED)");
		// Whole, to be pasted.
		expect(ran.stderr).toContain(`sluice channels request-close ${state.channelId}\``);
		await kept.remove();
	});

	it("are refused what they can't do, with what to do instead", async () => {
		const unknown = `0x${"ab".repeat(32)}`;
		const cases: readonly (readonly [readonly string[], Record<string, string>, number, RegExp])[] = [
			[["request-close", unknown, ...wallet, ...rpc], key, 1, /sluice channels list/],
			[["request-close", channel.channelId, ...wallet], key, 2, /--rpc/],
			[["request-close", channel.channelId, ...wallet, ...rpc], {}, 2, /SLUICE_PAYER_KEY/],
			[["list", "--wallet", folder.path, "--data", folder.path], {}, 2, /give one/],
			[["list", "--owed", ...wallet], {}, 2, /--owed does not go with --wallet/],
			[["list", "--wallet", join(folder.path, "nowhere")], {}, 2, /no wallet/],
			[["list"], { SLUICE_WALLET: folder.path, SLUICE_DATA: folder.path }, 2, /both set/],
			[["export", channel.channelId, "--data", folder.path], {}, 2, /name none/],
			[["close", ...wallet, ...rpc], key, 2, /--all/],
		];
		for (const [args, env, code, text] of cases) {
			const ran = await sluice(["channels", ...args], env);
			expect(ran.stderr, args.join(" ")).toMatch(text);
			expect(ran.code, args.join(" ")).toBe(code);
		}
		const stranger = generatePrivateKey();
		isSecret(stranger);
		const wrong = await sluiceJson(["channels", "request-close", channel.channelId, ...wallet, ...rpc], {
			SLUICE_PAYER_KEY: stranger,
		});
		// It is paid out: whoever asks is told so, and nothing is sent.
		expect(wrong.value).toMatchObject({ channels: [{ outcome: "finalized" }] });
	});
});

describe("a payer's channels whose server runs", { timeout: 180_000 }, () => {
	let world: World;
	let folder: string;
	beforeAll(async () => {
		world = await createWorld();
		folder = await mkdtemp(join(tmpdir(), "sluice-payer-"));
	});
	afterAll(async () => {
		await world.stop();
		await rm(folder, { recursive: true, force: true });
	});

	it("are closed by it, with what was consumed", async () => {
		const server = await world.serve();
		const key = generatePrivateKey();
		isSecret(key);
		const account = privateKeyToAccount(key);
		const funder = await world.payer({ gas: true });
		const { chainId, client } = world.chain;
		await sendFrom({ client, chainId }, funder.account, transferCall(world.token, account.address, 1_000_000n));
		const path = join(folder, "wallet");
		const host = new URL(server.url).host;
		const limits = { maxDeposit: 100_000n, maxPrice: PRICE };
		const policy = { chainIds: [chainId], tokens: [world.token], escrows: [world.escrow], hosts: [host], ...limits };
		const store = await openWallet(path);
		const payer = new PaymentClient({ account, client, store, policy });
		expect((await payer.fetch(`${server.url}/session`)).status).toBe(200);
		await payer.release();
		await store.close();
		await writeFile(join(path, "policy.json"), JSON.stringify(documentOf(world, host)));

		const args = ["channels", "close", "--all", "--wallet", path, "--rpc", world.chain.url];
		const closed = await sluiceJson(args, { SLUICE_PAYER_KEY: key });
		expect(closed.code, closed.stderr).toBe(0);
		expect(closed.value).toMatchObject({ outcome: "done", channels: [{ outcome: "closed", settled: String(PRICE) }] });
		const again = await sluiceJson(args, { SLUICE_PAYER_KEY: key });
		expect(again).toMatchObject({ code: 0, value: { outcome: "done", channels: [] } });
	});
});

/** `sluice channels watch`, which goes on until it is ended. */
function watch(options: readonly string[]) {
	const args = ["--disable-warning=ExperimentalWarning", MAIN, "channels", "watch", ...options];
	const child = spawn(process.execPath, args, {
		env: { PATH: process.env.PATH },
	});
	const ended = once(child, "close");
	let shown = "";
	child.stdout.setEncoding("utf8").on("data", (text) => {
		shown += text;
	});
	return {
		stdout: () => shown,
		until: (text: string) => until(`${text} in the output`, () => shown.includes(text)),
		async end() {
			child.kill("SIGTERM");
			await ended;
		},
	};
}

function documentOf({ chain, token, escrow }: Pick<World, "token" | "escrow"> & Pick<Stage, "chain">, host: string) {
	const tokens = [{ chainId: chain.chainId, address: token }];
	return {
		hosts: [host],
		escrows: [escrow],
		currencies: [{ symbol: "USDC", decimals: 6, tokens, maxPrice: "0.01", maxDeposit: "1" }],
	};
}
