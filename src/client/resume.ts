import type { SessionRequest } from "../protocol/index.ts";
import { PayerChannel } from "./channel.ts";
import { least } from "./least.ts";
import type { Outgoing } from "./outgoing.ts";
import type { SessionParts } from "./parts.ts";
import { boundsFor } from "./policy.ts";
import type { SessionKey } from "./sessionKeys.ts";
import type { CredentialSigner } from "./sign.ts";
import { parseState, topUpFrom } from "./state.ts";
import type { ChannelRecord } from "./store/store.ts";
import { isUsable } from "./usable.ts";

/**
 * A channel of an earlier client, from what that one kept of it. One that is not on chain yet is opened as that one would
 * have: with the same salt, so that whatever was signed before the escrow takes one deposit. Whether the policy allows that now
 * is looked at when it is to be opened.
 *
 * @throws ChannelStateError
 */
export function channelFromState(state: unknown, signer: CredentialSigner, sessionKey?: SessionKey): PayerChannel {
	const signers = sessionKey === undefined ? signer.signers : [sessionKey.address];
	const checked = parseState(state, signer.payer, signers);
	const { channelId, chainId, escrow, payer, payee, token, authorizedSigner, salt, resource } = checked;
	const topUp = topUpFrom(checked);
	const channel = new PayerChannel({
		channelId,
		parameters: { payer, payee, token, salt, authorizedSigner, escrow, chainId },
		deposit: BigInt(checked.deposit),
		signed: BigInt(checked.signed),
		consumed: BigInt(checked.consumed),
		uncertain: BigInt(checked.uncertain),
		resource,
		sessionKey,
		...(topUp !== undefined && { topUp }),
	});
	channel.funding = checked.funding;
	if (salt !== undefined) channel.fundableUntil = Number.POSITIVE_INFINITY;
	return channel;
}

/**
 * A channel as it was kept. What may have been charged without this client's knowing is asked for before more is signed.
 *
 * @throws ChannelStateError
 */
export function channelFromRecord(record: ChannelRecord, signer: CredentialSigner): PayerChannel {
	const sessionKey = record.sessionKey === undefined ? undefined : signer.keptSessionKey(record.sessionKey);
	const channel = channelFromState(record.state, signer, sessionKey);
	channel.challenge = record.challenge;
	channel.asksFirst = channel.uncertain > 0n;
	if (record.fundableUntilMs !== undefined && channel.fundableUntil > record.fundableUntilMs)
		channel.fundableUntil = record.fundableUntilMs;
	return channel;
}

/**
 * The channel that the server names for going on with it, if the escrow, asked on the payer's own node, says that it is
 * this payer's, to this payee, in this token, with vouchers that can be signed here, open, and with enough in it for one
 * request (draft-evm-session-00, Method Details). One that is in the books already is gone on with, or not, as those say.
 * What the escrow has settled counts as consumed. What the server says it has accepted beyond that is owed only as far as
 * the policy goes.
 */
export async function findNamedChannel(
	{ channels, signer, policy }: SessionParts,
	{ url, method }: Pick<Outgoing, "url" | "method">,
	terms: SessionRequest,
): Promise<PayerChannel | undefined> {
	const { currency: token, recipient: payee, amount, methodDetails } = terms;
	const { channelId, chainId, escrowContract: escrow } = methodDetails;
	if (channelId === undefined || (await channels.knows(channelId))) return undefined;
	const onChain = await channels.look({ channelId, parameters: { chainId, escrow } });
	if (onChain === undefined || !signer.signers.includes(onChain.authorizedSigner)) return undefined;
	const { authorizedSigner, deposit, settled } = onChain;
	const parameters = { payer: signer.payer, payee, token, salt: undefined, authorizedSigner, escrow, chainId };
	if (!isUsable({ parameters }, onChain, amount)) return undefined;
	const { maxUnaccounted } = boundsFor(policy, { chainId, token });
	const uncertain = least(maxUnaccounted, deposit - settled);
	const amounts = { deposit, signed: settled, consumed: settled, uncertain };
	const channel = new PayerChannel({
		channelId,
		parameters,
		...amounts,
		resource: { url, method },
		isUnrecorded: true,
	});
	channel.open = true;
	return channel;
}
