import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Address, Hex, LocalAccount } from "viem";
import { PaymentClient, type PaymentClientOptions, type PaymentPolicy } from "../../src/client/index.ts";
import {
	type Challenge,
	type ChallengeParams,
	type Credential,
	createChallenge,
	encodeReceipt,
	formatChallenge,
	formatTimestamp,
	nonceOpaque,
	PROBLEM_CONTENT_TYPE,
	type ProblemExtensions,
	type ProblemName,
	parseCredential,
	problem,
	type SessionReceipt,
} from "../../src/protocol/index.ts";
import type { World } from "../support/world.ts";

const SECRET = "a secret of a lying server, thirty-two bytes";

/** Another party, of no policy. */
export const STRANGER: Address = `0x${"99".repeat(20)}`;

/** What an account was asked for its signature on. */
export type Signed = Readonly<{ primaryType: string; domain: object; message: Readonly<Record<string, unknown>> }>;

/** An account, and everything that was ever signed with it. */
export type Spy = Readonly<{
	account: LocalAccount;
	signed: readonly Signed[];
	transactions: readonly Readonly<Record<string, unknown>>[];
	/** Signatures of any other kind: the client has no use for them. */
	others: readonly string[];
	/** Bare digests: charges by Permit2, whose type string in the draft no typed data can have. */
	hashes: readonly Hex[];
	/** Cumulative amounts of the vouchers for a channel, in the order they were signed. */
	vouchers(channelId?: string): readonly bigint[];
	/** Authorizations of deposits. */
	deposits(): readonly Signed["message"][];
	/** Authorizations of charges. */
	charges(): readonly Signed["message"][];
}>;

export function spyOn(account: LocalAccount): Spy {
	const signed: Signed[] = [];
	const transactions: Record<string, unknown>[] = [];
	const others: string[] = [];
	const hashes: Hex[] = [];
	const messages = (type: string) =>
		signed.flatMap(({ primaryType, message }) => (primaryType === type ? [message] : []));
	const spied: LocalAccount = {
		...account,
		async signTypedData(typedData) {
			signed.push(typedData as unknown as Signed);
			return account.signTypedData(typedData);
		},
		async signTransaction(transaction, options) {
			transactions.push(transaction as Record<string, unknown>);
			return account.signTransaction(transaction, options);
		},
		async signMessage(message) {
			others.push("message");
			return account.signMessage(message);
		},
		async sign(parameters) {
			hashes.push(parameters.hash);
			if (account.sign === undefined) throw new Error("this account signs no hashes");
			return account.sign(parameters);
		},
		async signAuthorization() {
			others.push("delegation");
			throw new Error("a delegation must never be signed");
		},
	};
	return {
		account: spied,
		signed,
		transactions,
		others,
		hashes,
		vouchers: (channelId) =>
			messages("Voucher").flatMap((message) =>
				channelId === undefined || message.channelId === channelId ? [message.cumulativeAmount as bigint] : [],
			),
		deposits: () => messages("ReceiveWithAuthorization"),
		charges: () => messages("TransferWithAuthorization"),
	};
}

/** A request as a scripted server sees it. */
export type Call = Readonly<{
	/** How many came before. */
	index: number;
	method: string;
	path: string;
	headers: Readonly<Record<string, string | undefined>>;
	body: string;
	credential: Credential | undefined;
}>;

/** `cut`: the connection is broken without an answer. */
export type Reply =
	| "cut"
	| Readonly<{
			status?: number;
			headers?: Readonly<Record<string, string | readonly string[]>>;
			body?: string;
			/** Sent one after the other as they come, instead of a body. */
			pieces?: AsyncIterable<string>;
	  }>;

export type Script = (call: Call) => Reply | Promise<Reply>;

/** A server on a real socket that answers what it is told to, and remembers what it was asked. */
export type ScriptedServer = Readonly<{
	url: string;
	host: string;
	calls: readonly Call[];
	/** The payloads it was paid with. */
	payloads(action?: string): readonly Readonly<Record<string, unknown>>[];
	/** From now on. */
	answer(script: Script): void;
	stop(): Promise<void>;
}>;

export async function scriptedServer(initial: Script = () => ({})): Promise<ScriptedServer> {
	let script = initial;
	const calls: Call[] = [];
	const server = createServer(async (request, response) => {
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const { authorization = "" } = request.headers;
		const call: Call = {
			index: calls.length,
			method: request.method ?? "",
			path: request.url ?? "",
			headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, value?.toString()])),
			body: Buffer.concat(chunks).toString("utf8"),
			credential: authorization.startsWith("Payment ") ? parseCredential(authorization) : undefined,
		};
		calls.push(call);
		const reply = await reply500(script, call);
		if (reply === "cut") {
			request.socket.destroy();
			return;
		}
		for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
		response.writeHead(reply.status ?? 200);
		for await (const piece of reply.pieces ?? []) response.write(piece);
		response.end(reply.body);
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
	return {
		url: `http://${host}`,
		host,
		calls,
		payloads: (action) =>
			calls.flatMap(({ credential }) =>
				credential !== undefined && (action === undefined || credential.payload.action === action)
					? [credential.payload]
					: [],
			),
		answer(next) {
			script = next;
		},
		async stop() {
			server.closeAllConnections();
			server.close();
			await once(server, "close");
		},
	};
}

/** A script that throws is a mistake of the test: its request must not wait for ever. */
async function reply500(script: Script, call: Call): Promise<Reply> {
	try {
		return await script(call);
	} catch (error) {
		return { status: 500, body: `the script failed: ${error}` };
	}
}

/** Where channels are. */
export type Place = Pick<World, "chain" | "token" | "escrow">;

/** A session request in wire form, to change at will. */
export type Terms = Readonly<Record<string, unknown>>;

export function sessionTerms(
	{ chain, token, escrow }: Place,
	payee: Address,
	changes: Terms = {},
	details: Terms = {},
): Terms {
	return {
		amount: "100",
		suggestedDeposit: "10000",
		currency: token,
		recipient: payee,
		...changes,
		methodDetails: { chainId: chain.chainId, escrowContract: escrow, credentialTypes: ["authorization"], ...details },
	};
}

export function challengeOf(request: Terms, changes: Partial<ChallengeParams> = {}): Challenge {
	return createChallenge(SECRET, {
		realm: "test.example",
		method: "evm",
		intent: "session",
		request,
		expires: formatTimestamp(Date.now() + 300_000),
		opaque: nonceOpaque(crypto.getRandomValues(new Uint8Array(16))),
		...changes,
	});
}

/** A 402 with these offers. */
export function paymentRequired(...challenges: readonly Challenge[]): Exclude<Reply, "cut"> {
	return refusal("payment-required", {}, ...challenges);
}

export function refusal(
	name: ProblemName,
	extensions: ProblemExtensions = {},
	...challenges: readonly Challenge[]
): Exclude<Reply, "cut"> {
	const body = problem(name, "No.", extensions);
	return {
		status: body.status,
		headers: {
			"content-type": PROBLEM_CONTENT_TYPE,
			...(challenges.length > 0 && { "www-authenticate": challenges.map(formatChallenge) }),
		},
		body: JSON.stringify(body),
	};
}

/** A receipt header for the channel a credential is about. */
export function receiptHeader(
	{ credential }: Call,
	chainId: number,
	spent: bigint,
	changes: Partial<SessionReceipt> = {},
): Record<string, string> {
	const channelId = String(credential?.payload.channelId) as SessionReceipt["channelId"];
	const receipt: SessionReceipt = {
		method: "evm",
		intent: "session",
		status: "success",
		timestamp: formatTimestamp(Date.now()),
		challengeId: credential?.challenge.id ?? "none",
		reference: channelId,
		channelId,
		chainId,
		acceptedCumulative: BigInt(String(credential?.payload.cumulativeAmount ?? 0)),
		spent,
		...changes,
	};
	return { "payment-receipt": encodeReceipt(receipt) };
}

/** Waits as long as a test may. */
export const QUICK = { retries: 3, minDelayMs: 1, maxDelayMs: 5 } as const;

/** A client that may pay `hosts` at most 1,000 a request out of deposits of at most 10,000. */
export function clientFor(
	{ chain, token, escrow }: Place,
	account: PaymentClientOptions["account"],
	hosts: readonly string[],
	policy: Partial<PaymentPolicy> = {},
	options: Partial<PaymentClientOptions> = {},
): PaymentClient {
	return new PaymentClient({
		account,
		client: chain.client,
		policy: {
			chainIds: [chain.chainId],
			tokens: [token],
			escrows: [escrow],
			hosts: [...hosts],
			maxDeposit: 10_000n,
			maxPrice: 1_000n,
			...policy,
		},
		retry: QUICK,
		...options,
	});
}

/** The code of the typed error that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
	try {
		await promise;
	} catch (error) {
		return error instanceof Error && "code" in error ? String(error.code) : `untyped: ${error}`;
	}
	return "it did not reject";
}
