/** A payer whose channel is open, and what its requests do before they are sent. */
import { createPublicClient, type Hex, http, type LocalAccount } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { PayerChannel } from "../../src/client/channel.ts";
import { Gate } from "../../src/client/gate.ts";
import { type PayerStore, PaymentClient, type PaymentPolicy, type SendingAccount } from "../../src/client/index.ts";
import { Keeper } from "../../src/client/keeper.ts";
import { Nodes } from "../../src/client/nodes.ts";
import { parsePolicy } from "../../src/client/policy.ts";
import { channelFromRecord } from "../../src/client/resume.ts";
import { CredentialSigner } from "../../src/client/sign.ts";
import { voucherCredential } from "../../src/client/voucherCredential.ts";
import {
	type Challenge,
	createChallenge,
	encodeReceipt,
	encodeSessionRequest,
	formatChallenge,
	formatTimestamp,
	nonceOpaque,
	PAYMENT_RECEIPT,
	type SessionReceipt,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";
import type { OpenChannel, Place } from "../lib/stage.ts";

/** What one request costs, in base units. */
export const PRICE = 100n;

const HOST = "api.example.com";
const RESOURCE = { url: `https://${HOST}/quote`, method: "GET" };
const DAY_MS = 86_400_000;

export type PayerOptions = Readonly<{
	place: Place;
	/** The channel that pays, which this payer alone uses. */
	open: OpenChannel;
	store: PayerStore;
	/** Makes the account of the key that the channel names to sign its vouchers. */
	accountOf(key: Hex): LocalAccount;
}>;

export type Payer = Readonly<{
	/** The next request's header. */
	header(): Promise<string>;
	/** The next voucher's signature, and nothing else of its header. */
	signature(): Promise<Hex>;
	/** The highest amount that was signed, in base units. */
	signed(): bigint;
}>;

/**
 * The parts of a `PaymentClient` that stand between a request whose price is known and its sending, put together as that puts them
 * together: the channel's books, the policy with its limits, the record in the store, the signature, the header.
 */
export async function openPayer({ place, open, store, accountOf }: PayerOptions): Promise<Payer> {
	const { channelId, payer, signerKey, deposit } = open;
	const { chainId, escrow, token } = place;
	const now = Date.now;
	const account = silentAccount(payer);
	const authorizedSigner = accountOf(signerKey);
	const nodes = new Nodes({ account, client: nodeOf(place), clients: {}, now });
	const signer = new CredentialSigner({ account, authorizedSigner, nodes, now });
	const keeper = new Keeper({ store, payer, restore: (record) => channelFromRecord(record, signer), now });
	const rules = parsePolicy(policyFor(place));
	const gate = new Gate({ keeper, policy: () => rules, approve: undefined, now });
	// What a voucher with a top-up needs besides is not reached.
	const parts = { signer, gate } as Parameters<typeof voucherCredential>[0];
	const challenge = challengeFor(place);
	const channel = new PayerChannel({
		channelId,
		parameters: {
			...{ payer, payee: payeeOf(place), token, escrow, chainId, salt: undefined },
			authorizedSigner: lower(authorizedSigner.address),
		},
		deposit,
		challenge,
		resource: RESOURCE,
	});
	channel.open = true;
	if (!(await keeper.add(channel.key, channel, 1))) throw new Error("the channel was not added to the payer's store");
	return {
		async header() {
			const amount = channel.begin(PRICE);
			const header = await voucherCredential(parts, challenge, channel, amount, undefined);
			channel.delivered(PRICE);
			return header;
		},
		signature() {
			const amount = channel.begin(PRICE);
			channel.delivered(PRICE);
			return signer.voucher(channel, amount);
		},
		signed: () => channel.signed,
	};
}

/**
 * A whole `PaymentClient`, whose requests are answered within this process, with a receipt: all that it does for a request but the
 * network.
 *
 * @returns pays for one request
 */
export function openClient({ place, open, store, accountOf }: PayerOptions): () => Promise<void> {
	const { channelId, payer, signerKey, deposit } = open;
	const { chainId, escrow, token } = place;
	const authorizedSigner = accountOf(signerKey);
	const challenge = challengeFor(place);
	let spent = 0n;
	const answer = async (request: Request) => {
		if (!request.headers.has("authorization"))
			return new Response(null, { status: 402, headers: { [WWW_AUTHENTICATE]: formatChallenge(challenge) } });
		spent += PRICE;
		return new Response("served", { headers: { [PAYMENT_RECEIPT]: encodeReceipt(receipt()) } });
	};
	const receipt = (): SessionReceipt => ({
		...{ method: "evm", intent: "session", status: "success", timestamp: formatTimestamp(Date.now()) },
		...{ challengeId: challenge.id, chainId, reference: channelId, channelId, acceptedCumulative: spent, spent },
	});
	const client = new PaymentClient({
		account: silentAccount(payer),
		authorizedSigner,
		client: nodeOf(place),
		policy: policyFor(place),
		store,
		fetch: answer as typeof globalThis.fetch,
		resume: [
			{
				...{ channelId, chainId, escrow, payer, payee: payeeOf(place), token, deposit: String(deposit) },
				...{ authorizedSigner: lower(authorizedSigner.address), resource: RESOURCE },
				...{ signed: "0", consumed: "0", uncertain: "0" },
			},
		],
	});
	return async () => {
		const response = await client.fetch(RESOURCE.url);
		if (response.status !== 200) throw new Error(`a paid request was answered ${response.status}`);
		await response.text();
	};
}

/** With the limits that an agent has. */
function policyFor({ chainId, token, escrow }: Place): PaymentPolicy {
	return {
		...{ chainIds: [chainId], tokens: [token], escrows: [escrow], hosts: [HOST] },
		...{ maxDeposit: 10n ** 18n, maxPrice: PRICE, maxChannels: 1 },
		limits: { host: { day: 10n ** 18n }, total: { month: 10n ** 18n } },
	};
}

function challengeFor(place: Place): Challenge {
	const { chainId, escrow, token, secret } = place;
	return createChallenge(secret, {
		...{ realm: HOST, method: "evm", intent: "session" },
		request: encodeSessionRequest({
			...{ amount: PRICE, unitType: "request", currency: token, recipient: payeeOf(place) },
			methodDetails: { chainId, escrowContract: escrow, credentialTypes: ["authorization", "hash"] },
		}),
		expires: formatTimestamp(Date.now() + DAY_MS),
		opaque: nonceOpaque(crypto.getRandomValues(new Uint8Array(16))),
	});
}

/** The payer itself signs nothing here: its channel has a key that does. */
function silentAccount(address: Hex): SendingAccount {
	const refuse = async () => {
		throw new Error("the payer was asked to sign");
	};
	return { address, signTypedData: refuse, sendTransaction: refuse };
}

function nodeOf({ rpcUrl }: Place) {
	return createPublicClient({ transport: http(rpcUrl) });
}

function payeeOf({ payeeKey }: Place): Hex {
	return lower(privateKeyToAccount(payeeKey).address);
}

function lower(address: string): Hex {
	return address.toLowerCase() as Hex;
}
