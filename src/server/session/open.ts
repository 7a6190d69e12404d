import { type Address, type Hex, WaitForTransactionReceiptTimeoutError } from "viem";
import { openWithAuthorizationCall } from "../../escrow/calls.ts";
import { readOpeningReceipt } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { TransactionRevertedError } from "../../escrow/sender.ts";
import { type OpenPayload, type Problem, parseSource, problem } from "../../protocol/index.ts";
import { authorizationDigest, computeChannelId, openAuthorizationNonce, voucherSigner } from "../../voucher/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";
import { ChallengeTakenError, challengeKey, consumeChallenge, expiryOf, foreignChallengeProblem } from "../proofs.ts";
import type { Turn } from "../store/store.ts";
import { isValidNow } from "../validity.ts";
import { credit, type Opening, openingPurpose, openKey } from "./credit.ts";
import { type SessionOrder, unsupportedProblem } from "./order.ts";
import { revertedProblem } from "./reverted.ts";
import { spend } from "./spend.ts";
import { signatureProblem } from "./voucher.ts";

/** How long a request waits for a transaction that only the client has seen. */
const HASH_WAIT_MS = 10_000;

type AuthorizationOpen = Extract<OpenPayload, { type: "authorization" }>;
type HashOpen = Extract<OpenPayload, { type: "hash" }>;

/**
 * `action="open"`: draft-evm-session-00, Open Verification. Everything that needs no chain is checked first, the
 * initial voucher included (D5); then the deposit is made or found on chain and credited once (D12); then the same
 * credential pays for this request if its voucher covers the price (D11).
 */
export async function open(context: EngineContext, order: SessionOrder<OpenPayload>): Promise<Admission> {
	const { payload, screened, request, offer } = order;
	if (payload.type === "permit2") return refused(unsupportedProblem('type "permit2"'));
	const accepted = screened.request.methodDetails.credentialTypes ?? ["hash"];
	if (!accepted.includes(payload.type)) return refused(unsupportedProblem(`type "${payload.type}"`));

	const opening = await describe(context, order as SessionOrder<AuthorizationOpen | HashOpen>);
	if ("problem" in opening) return refused(opening.problem);
	const foreign = await usedByAnother(context, order, opening.identity.channelId);
	if (foreign !== undefined) return foreign;
	const known = await context.store.channel(payload.channelId);
	if (known !== undefined) await context.chainState.ensureFresh(known);
	else {
		const refusal =
			payload.type === "authorization"
				? await fundByAuthorization(context, payload, opening)
				: await fundByHash(context, payload, opening);
		if (refusal !== undefined) return refusal;
	}
	return spend(context, {
		request,
		offer,
		challenge: screened.credential.challenge,
		channelId: payload.channelId,
		voucher: { cumulativeAmount: payload.cumulativeAmount, signature: opening.voucher.signature },
		credentialKey: screened.credentialKey,
		management: request.method === "HEAD" ? "always" : "when-not-covered",
	});
}

/** What the credential says it opens, its channel id recomputed and its voucher verified; or what is wrong with it. */
async function describe(
	context: EngineContext,
	{ payload, screened, offer }: SessionOrder<AuthorizationOpen | HashOpen>,
): Promise<Opening | Readonly<{ problem: Problem }>> {
	const { terms, signatures, voucherDomain, now } = context;
	const { challenge, source } = screened.credential;
	const { channelId, cumulativeAmount, salt, authorizedSigner } = payload;
	const payer = payload.type === "authorization" ? payload.authorization.from : payerOf(source, terms.chainId);
	if (payer === undefined) {
		return { problem: problem("bad-request", `type "hash" needs a source did:pkh:eip155:${terms.chainId}:<payer>.`) };
	}
	const { chainId, escrow, currency: token, recipient: payee } = terms;
	const identity: ChannelIdentity = { channelId, chainId, escrow, payer, payee, token, authorizedSigner };
	if (computeChannelId({ payer, payee, token, salt, authorizedSigner, escrow, chainId }) !== channelId) {
		return {
			problem: problem(
				"bad-request",
				"channelId does not follow from payer, payee, token, salt, signer, escrow and chain.",
				{ channelId },
			),
		};
	}
	const signature = payload.type === "authorization" ? payload.voucherSignature : payload.signature;
	const verdict = await signatures.verifyVoucher(
		voucherDomain,
		voucherSigner(identity),
		{ channelId, cumulativeAmount },
		signature,
	);
	const invalid = signatureProblem(verdict, channelId);
	if (invalid !== undefined) return { problem: invalid };
	return {
		identity,
		salt,
		voucher: { cumulativeAmount, signature, challengeId: challenge.id },
		challengeExpiresAt: expiryOf(challenge, now()),
		minimum: offer.amount,
	};
}

/** Opening consumes its challenge (D9): another channel's is refused before anything is sent. */
async function usedByAnother(
	{ store }: EngineContext,
	{ screened }: SessionOrder,
	channelId: Hex,
): Promise<Refused | undefined> {
	const key = challengeKey(screened.credential.challenge);
	const { value } = await store.transact({ proofs: [key] }, (view) => ({ value: view.proof(key)?.usedBy }));
	return value === undefined || value === channelId ? undefined : refused(foreignChallengeProblem());
}

/** Sends `openWithAuthorization` unless the channel is open already; resolves when it is credited, or to a refusal. */
async function fundByAuthorization(
	context: EngineContext,
	payload: AuthorizationOpen,
	opening: Opening,
): Promise<Refused | undefined> {
	const { client, terms, transactions } = context;
	const { channelId } = opening.identity;
	// What is on its way already is waited for, however long its authorization is still valid.
	const isUnderWay = transactions.isUnderWay(openKey({ channelId }));
	const invalid = isUnderWay ? undefined : await authorizationProblem(context, payload, opening);
	if (invalid !== undefined) return refused(invalid);

	const { authorization, signature } = payload;
	const channel = {
		payee: terms.recipient,
		token: terms.currency,
		salt: opening.salt,
		authorizedSigner: opening.identity.authorizedSigner,
	};
	const call = openWithAuthorizationCall(terms.escrow, channel, { ...authorization, signature });
	const purpose = openingPurpose(opening, terms);
	try {
		await transactions.perform({
			...call,
			key: openKey(purpose),
			purpose,
			record: (entry) => record(context, opening, entry),
		});
		return undefined;
	} catch (error) {
		// A stranger who copied our pending call and was first has opened the very channel.
		const mined =
			error instanceof TransactionRevertedError ? await readOpeningReceipt(client, terms.escrow, channelId) : undefined;
		if (mined === undefined) return revertedProblem(error, channelId);
		const outcome = await credit(context, opening, mined);
		return outcome === undefined ? undefined : refused(outcome);
	}
}

/** On disk before the broadcast: the transaction, and that this channel has taken the challenge. */
async function record({ store }: EngineContext, opening: Opening, entry: OutboxEntry): Promise<void> {
	const { identity, voucher, challengeExpiresAt } = opening;
	const key = challengeKey({ id: voucher.challengeId });
	const { channelId } = identity;
	const { durable } = await store.transact({ proofs: [key] }, (view): Turn<void> => {
		const bound = view.proof(key);
		if (bound !== undefined && bound.usedBy !== channelId) throw new ChallengeTakenError();
		const proofs = consumeChallenge(voucher.challengeId, challengeExpiresAt, channelId, store);
		return { value: undefined, writes: { outbox: [entry], proofs } };
	});
	await durable;
}

/** What is wrong with an ERC-3009 deposit, checked before any gas is spent on it. */
async function authorizationProblem(
	context: EngineContext,
	{ authorization, signature, channelId }: AuthorizationOpen,
	{ identity, salt, voucher, minimum }: Opening,
): Promise<Problem | undefined> {
	const { terms, limits, signatures, tokenDomain, now } = context;
	if (tokenDomain === undefined) return unsupportedProblem('type "authorization"');
	const { from, to, value, validAfter, validBefore, nonce } = authorization;
	const { payee, token, authorizedSigner } = identity;
	if (to !== terms.escrow) {
		return problem("bad-request", "authorization.to must be the escrow.", { to, expected: terms.escrow });
	}
	if (nonce !== openAuthorizationNonce({ from, payee, token, salt, authorizedSigner })) {
		return problem("bad-request", "authorization.nonce does not follow from the channel's parameters.", { nonce });
	}
	// The ledger is asked what it would say of the channel if it were open already.
	const chain = { deposit: value, settledOnChain: 0n, closeRequestedAt: 0, finalized: false };
	const least = minimum > limits.minSponsoredDeposit ? minimum : limits.minSponsoredDeposit;
	const foreseen = applyEvent(undefined, { type: "opened", identity, chain, voucher, minimum: least }, now());
	if (!foreseen.ok) return foreseen.problem;
	if (!isValidNow(authorization, context)) {
		const detail = "The authorization is not valid now, or not for long enough.";
		return problem("payment-expired", detail, { validAfter, validBefore });
	}
	const digest = authorizationDigest("receive", tokenDomain, authorization);
	return signatureProblem(await signatures.verifyDigest(from, digest, signature), channelId);
}

/** Finds the opening that the payer's own transaction made; resolves when it is credited, or to a refusal. */
async function fundByHash(context: EngineContext, { hash }: HashOpen, opening: Opening): Promise<Refused | undefined> {
	const { client, limits } = context;
	const { channelId } = opening.identity;
	try {
		const receipt = await client.waitForTransactionReceipt({
			hash,
			timeout: Math.min(limits.transactionTimeoutMs, HASH_WAIT_MS),
		});
		if (receipt.status !== "success") {
			return refused(
				problem("session/transaction-reverted", "The transaction that should have opened the channel reverted.", {
					channelId,
					hash,
				}),
			);
		}
		const outcome = await credit(context, opening, receipt);
		return outcome === undefined ? undefined : refused(outcome);
	} catch (error) {
		if (!(error instanceof WaitForTransactionReceiptTimeoutError)) throw error;
		return refused(
			problem("service-unavailable", "The transaction that opens the channel is not mined yet.", { channelId, hash }),
			5,
		);
	}
}

function payerOf(source: string | undefined, chainId: number): Address | undefined {
	const parsed = source === undefined ? undefined : parseSource(source);
	return parsed?.chainId === chainId ? parsed.address : undefined;
}
