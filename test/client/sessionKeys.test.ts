import { inspect } from "node:util";
import { concat, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MemoryPayerStore, type PaymentClient, type SendingAccount } from "../../src/client/index.ts";
import { approveCall } from "../../src/escrow/index.ts";
import { CANONICAL_PERMIT2, ZERO_ADDRESS } from "../../src/voucher/index.ts";
import { contractPayer, deployWallet } from "./contractPayer.ts";
import { relays } from "./relays.ts";
import { createStage, type Stage } from "./stage.ts";
import { clientFor, codeOf, spyOn } from "./support.ts";

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());
const relayed = relays(() => stage);

async function paid(payer: PaymentClient, url: string, times = 1): Promise<void> {
	for (let n = 0; n < times; n++) {
		const response = await payer.fetch(url);
		expect(await response.text()).toBe("served");
	}
}

/** Who signs the vouchers of the client's channels, as the escrow has it. */
async function signersOf(payer: PaymentClient): Promise<readonly string[]> {
	const channels = await Promise.all(payer.channels.map(({ channelId }) => stage.onChain(channelId)));
	return channels.map((channel) => channel?.authorizedSigner ?? "not there");
}

describe("channels of an account with a key", () => {
	it("get no key of their own unless that is asked for", async () => {
		const { server } = await relayed();
		const spy = spyOn(await stage.payer());
		const payer = clientFor(stage, spy.account, [server.host]);
		await paid(payer, server.url, 2);
		expect(await signersOf(payer)).toEqual([ZERO_ADDRESS]);
		expect(spy.vouchers()).toEqual([100n, 200n]);
	});

	it("get one each where it is asked for: fresh, neither the payer's nor the payee's, and the payer signs deposits alone", async () => {
		const shops = [await relayed(), await relayed(), await relayed()];
		const spy = spyOn(await stage.payer());
		const hosts = shops.map(({ server }) => server.host);
		const payer = clientFor(stage, spy.account, hosts, {}, { sessionKeys: "always" });
		for (const { server } of shops) await paid(payer, server.url, 3);
		const signers = await signersOf(payer);
		expect(new Set(signers).size).toBe(3);
		const others = [ZERO_ADDRESS, spy.account.address.toLowerCase(), ...shops.map(({ relay }) => relay.address)];
		for (const other of others) expect(signers).not.toContain(other);
		expect(spy.vouchers()).toEqual([]);
		expect(spy.deposits()).toHaveLength(3);
		await payer.close();
		for (const { relay } of shops) expect(await stage.balance(relay.address)).toBe(300n);
	});

	it("get none of their own where there is one for all", async () => {
		const { server } = await relayed();
		const authorizedSigner = privateKeyToAccount(generatePrivateKey());
		const payer = clientFor(stage, await stage.payer(), [server.host], {}, { sessionKeys: "always", authorizedSigner });
		await paid(payer, server.url, 2);
		expect(await signersOf(payer)).toEqual([authorizedSigner.address.toLowerCase()]);
	});

	it("a channel is opened anew after its close with another key: none is used twice", async () => {
		const { server } = await relayed();
		const payer = clientFor(stage, await stage.payer(), [server.host], {}, { sessionKeys: "always" });
		await paid(payer, server.url);
		const [first] = await signersOf(payer);
		await payer.close();
		await paid(payer, server.url);
		expect(await signersOf(payer)).not.toEqual([first]);
	});
});

describe("a channel's own key", () => {
	it("is in the store before the opening leaves, and nowhere that it could be seen", async () => {
		const store = new MemoryPayerStore();
		const { relay, server } = await relayed();
		const keptAtOpening: (Hex | undefined)[] = [];
		server.answer(async (call) => {
			if (call.credential?.payload.action === "open") {
				const [kept] = await store.list();
				keptAtOpening.push(kept?.record.sessionKey);
				expect(kept?.record.state.authorizedSigner).toBe(call.credential.payload.authorizedSigner);
			}
			return relay.script(call);
		});
		const payer = clientFor(stage, await stage.payer(), [server.host], {}, { sessionKeys: "always", store });
		await paid(payer, server.url, 2);
		const [key] = keptAtOpening;
		if (key === undefined) throw new Error("no key was kept");
		expect(await signersOf(payer)).toEqual([privateKeyToAccount(key).address.toLowerCase()]);
		const [channel] = payer.channels;
		const shown = [
			inspect(payer, { depth: 20, showHidden: true }),
			inspect(channel, { depth: 20, showHidden: true }),
			JSON.stringify(channel?.state()),
			JSON.stringify(server.calls),
			JSON.stringify(await store.receipts()),
			String(await payer.close()),
		];
		for (const text of shown) expect(text.toLowerCase()).not.toContain(key.slice(2));
	});

	it("goes on with the store, in another client; a state alone is refused there, as it has no key", async () => {
		const store = new MemoryPayerStore();
		const { relay, server } = await relayed();
		const spy = spyOn(await stage.payer());
		const first = clientFor(stage, spy.account, [server.host], {}, { sessionKeys: "always", store });
		await paid(first, server.url, 2);
		const [state] = first.channels.map((channel) => channel.state());
		await first.release();
		if (state === undefined) throw new Error("no channel");
		const second = clientFor(stage, spy.account, [server.host], {}, { store });
		await paid(second, server.url, 2);
		expect(second.channels.map(({ channelId }) => channelId)).toEqual([state.channelId]);
		expect(spy.deposits()).toHaveLength(1);
		await second.close();
		expect(await stage.balance(relay.address)).toBe(400n);
		const resume = [state];
		expect(await codeOf((async () => clientFor(stage, spy.account, [server.host], {}, { resume }))())).toBe(
			"CHANNEL_STATE",
		);
	});
});

describe("a payer that is a contract wallet", () => {
	it("deposits by its contract's signature, and each channel's own key signs its vouchers (ERC-1271)", async () => {
		const shops = [await relayed(), await relayed({ details: { credentialTypes: ["authorization"] } })];
		const wallet = await contractPayer(stage);
		const hosts = shops.map(({ server }) => server.host);
		const payer = clientFor(stage, wallet.signing, hosts);
		for (const { server } of shops) await paid(payer, server.url, 3);
		const signers = await signersOf(payer);
		expect(new Set(signers).size).toBe(2);
		for (const other of [ZERO_ADDRESS, wallet.address, wallet.owner.address.toLowerCase()])
			expect(signers).not.toContain(other);
		expect(wallet.signed).toEqual(["ReceiveWithAuthorization", "ReceiveWithAuthorization"]);
		await payer.close();
		for (const { relay } of shops) expect(await stage.balance(relay.address)).toBe(300n);
		expect(await stage.balance(wallet.address)).toBe(1_000_000n - 600n);
	});

	it("deposits and is topped up through Permit2, which asks its contract as well (ERC-1271)", async () => {
		const { relay, server } = await relayed({ details: { credentialTypes: ["permit2"] } });
		const wallet = await contractPayer(stage);
		const account = wallet.sending({ contractSignatures: true });
		const { to, data } = approveCall(stage.token, CANONICAL_PERMIT2, 1_000_000n);
		await account.sendTransaction({ chainId: stage.chain.chainId, to: to ?? "0x", data });
		const payer = clientFor(stage, account, [server.host], { maxDeposit: 300n });
		await paid(payer, server.url, 5);
		expect(relay.executed).toEqual(["open permit2", "topUp permit2"]);
		expect(wallet.signed).toEqual(["PermitWitnessTransferFrom", "PermitWitnessTransferFrom"]);
		expect(account.sent).toHaveLength(1);
	});

	it("is topped up by its own transaction where its contract does not accept what is signed for that", async () => {
		const { relay, server } = await relayed();
		const wallet = await contractPayer(stage);
		const account = wallet.sending({ contractSignatures: true });
		let asked = 0;
		const signTypedData: SendingAccount["signTypedData"] = (typedData) =>
			++asked === 1 ? account.signTypedData(typedData) : Promise.resolve<Hex>(`0x${"11".repeat(65)}`);
		const payer = clientFor(stage, { ...account, signTypedData }, [server.host], { maxDeposit: 300n });
		await paid(payer, server.url, 5);
		expect(relay.executed).toEqual(["open authorization", "topUp hash"]);
		expect(asked).toBe(2);
	});

	it("deposits, is topped up and closed by its own transactions where it signs nothing", async () => {
		const { relay, server } = await relayed();
		const wallet = await contractPayer(stage);
		const account = wallet.sending();
		const payer = clientFor(stage, account, [server.host], { maxDeposit: 300n });
		await paid(payer, server.url, 5);
		expect(wallet.signed).toEqual([]);
		expect(relay.executed).toEqual(["topUp hash"]);
		// An approval and an opening, an approval and a top-up.
		expect(account.sent).toHaveLength(4);
		await payer.close();
		expect(await stage.balance(relay.address)).toBe(500n);
		expect(await stage.balance(wallet.address)).toBe(1_000_000n - 500n);
	});

	it("deposits by its own transactions where its contract does not accept what is signed, which never leaves", async () => {
		const shops = [await relayed(), await relayed()];
		const wallet = await contractPayer(stage);
		const stranger = privateKeyToAccount(generatePrivateKey());
		let asked = 0;
		const account: SendingAccount = {
			...wallet.sending({ contractSignatures: true }),
			signTypedData: (typedData) => {
				asked++;
				// One of more bytes than the wire has, then one of somebody else's.
				const signature = stranger.signTypedData(typedData);
				return asked === 1 ? signature.then((bytes) => concat([bytes, "0x00"])) : signature;
			},
		};
		const payer = clientFor(
			stage,
			account,
			shops.map(({ server }) => server.host),
		);
		for (const { server } of shops) await paid(payer, server.url, 2);
		// An authorization; a permit is not possible without an allowance, and not asked for.
		expect(asked).toBe(1);
		for (const { relay, server } of shops) {
			expect(relay.executed).toEqual([]);
			expect(server.payloads("open").map(({ type }) => type)).toEqual(["hash"]);
		}
	});

	it("can't pay where the server takes nothing but what it can't make, and says what was in the way", async () => {
		const { server } = await relayed({ details: { credentialTypes: ["authorization"] } });
		const wallet = await contractPayer(stage);
		const payer = clientFor(stage, wallet.sending(), [server.host]);
		await expect(payer.fetch(server.url)).rejects.toMatchObject({
			code: "POLICY_REFUSED",
			rule: "credential",
			message: expect.stringContaining("the payer is a contract"),
		});
		expect(wallet.signed).toEqual([]);
	});

	it("pays charges by its own transfer, and signs none for the server to send", async () => {
		const { relay, server } = await relayed({ offers: (one) => [one.charge()] });
		const wallet = await contractPayer(stage);
		const account = wallet.sending();
		await paid(clientFor(stage, account, [server.host]), server.url, 2);
		expect(server.payloads().map(({ type }) => type)).toEqual(["hash", "hash"]);
		expect(relay.charged).toEqual(account.sent);
	});

	it("whose process ends before it hears of its opening's hash opens nothing twice, and tells the server when it is back", async () => {
		const store = new MemoryPayerStore();
		const { relay, server } = await relayed();
		const wallet = await contractPayer(stage);
		const account = wallet.sending();
		const ended: SendingAccount = {
			...account,
			async sendTransaction(call) {
				const hash = await account.sendTransaction(call);
				// The approval is heard of, the opening is not.
				if (account.sent.length === 2) throw new Error("the process ends");
				return hash;
			},
		};
		const first = clientFor(stage, ended, [server.host], {}, { store });
		await expect(first.fetch(server.url)).rejects.toThrow("the process ends");
		expect(relay.books.size).toBe(0);
		await first.release();
		const second = clientFor(stage, account, [server.host], {}, { store });
		await paid(second, server.url, 3);
		expect(account.sent).toHaveLength(2);
		expect(server.payloads("open").map(({ hash }) => hash)).toEqual([account.sent[1]]);
		expect(second.channels).toHaveLength(1);
		await second.close();
		expect(await stage.balance(relay.address)).toBe(300n);
		expect(await stage.balance(wallet.address)).toBe(1_000_000n - 300n);
	});
});

describe("a payer that has delegated to code (EIP-7702)", () => {
	it("signs its vouchers with its key, and deposits where its code accepts that key", async () => {
		const { relay, server } = await relayed();
		const spy = spyOn(await stage.payer());
		const code = await deployWallet(stage, spy.account.address);
		await delegate(spy.account.address, code);
		const payer = clientFor(stage, spy.account, [server.host]);
		await paid(payer, server.url, 2);
		expect(await signersOf(payer)).toEqual([ZERO_ADDRESS]);
		expect(spy.vouchers()).toEqual([100n, 200n]);
		expect(relay.executed).toEqual(["open authorization"]);
	});

	it("deposits by its own transaction where its code does not", async () => {
		const { relay, server } = await relayed();
		const account = await stage.payer({ gas: true });
		await delegate(account.address, await deployWallet(stage, stage.chain.account(3).address));
		const payer = clientFor(stage, account, [server.host]);
		await paid(payer, server.url, 2);
		expect(relay.executed).toEqual([]);
		expect(server.payloads("open").map(({ type }) => type)).toEqual(["hash"]);
	});

	async function delegate(address: Hex, code: Hex): Promise<void> {
		const params = [address, concat(["0xef0100", code])];
		await stage.chain.client.request({ method: "anvil_setCode", params } as never);
	}
});
