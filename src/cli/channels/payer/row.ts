/** A payer's channel as people and programs see it: no key, no signature, amounts as decimal strings of base units. */
import { bareUrl } from "../../../client/bareUrl.ts";
import type { ListedChannel } from "../../../client/store/store.ts";
import type { Column } from "../../shared/table.ts";
import { moment, shortHex } from "../../shared/words.ts";

export type PayerRow = Readonly<{
	channelId: string;
	chainId: number;
	escrow: string;
	payer: string;
	payee: string;
	token: string;
	authorizedSigner: string;
	/** `forgotten`: no voucher is signed for it any more, and the escrow may still hold its deposit. */
	status: "open" | "forgotten" | "closed";
	/** A process of the agent is using it. */
	inUse: boolean;
	deposit: string;
	/** The highest amount that a voucher was ever signed for: what the payee can take at most. */
	signed: string;
	consumed: string;
	/** Prices of requests of which it is not known whether they were charged. */
	uncertain: string;
	/** Where it was opened, without its query, which may hold what is nobody's business. */
	url: string;
	createdAt: string;
	/** The payer's own transactions to get the deposit back, the oldest first. */
	recovery: readonly Readonly<{ kind: string; hash: string; nonce: number; at: string }>[];
}>;

export function payerRow({ record, isHeld }: ListedChannel): PayerRow {
	const { state, status, createdAtMs, recovery = [] } = record;
	const { channelId, chainId, escrow, payer, payee, token, authorizedSigner } = state;
	const { deposit, signed, consumed, uncertain, resource } = state;
	return {
		...{ channelId, chainId, escrow, payer, payee, token, authorizedSigner, status },
		inUse: isHeld,
		...{ deposit, signed, consumed, uncertain },
		url: bareUrl(resource.url),
		createdAt: moment(createdAtMs),
		recovery: recovery.map(({ kind, hash, nonce, atMs }) => ({ kind, hash, nonce, at: moment(atMs) })),
	};
}

export const PAYER_COLUMNS: readonly Column<PayerRow>[] = [
	{ title: "channel", width: 13, text: ({ channelId }) => shortHex(channelId) },
	{ title: "server", width: 24, text: ({ url }) => new URL(url).host },
	{ title: "token", width: 13, text: ({ token }) => shortHex(token) },
	{ title: "deposit", width: 12, right: true, text: ({ deposit }) => deposit },
	{ title: "signed", width: 12, right: true, text: ({ signed }) => signed },
	{ title: "consumed", width: 12, right: true, text: ({ consumed }) => consumed },
	{ title: "status", width: 16, text: ({ status, inUse }) => (inUse ? `${status}, in use` : status) },
	{ title: "opened", width: 24, text: ({ createdAt }) => createdAt },
];
