import type { Hex, LocalAccount } from "viem";
import type { AccountCall, SendingAccount } from "../../src/client/index.ts";
import type { Stage } from "./stage.ts";

/**
 * How a transaction goes that an account is asked for: it is sent and told of; sent, and an error in place of its hash; an error
 * and nothing sent; refused by its owner.
 */
export type Going = "told" | "untold" | "failed" | "rejected";

/** An account that sends by itself, as wallets of people do, and does not always tell. */
export function forgetfulAccount(stage: Stage, account: LocalAccount, going: (nth: number) => Going = () => "told") {
	const asked: AccountCall[] = [];
	const sent: Hex[] = [];
	const sending: SendingAccount = {
		address: account.address,
		signTypedData: account.signTypedData,
		async sendTransaction(call) {
			asked.push(call);
			const how = going(asked.length);
			if (how === "rejected") throw Object.assign(new Error("no"), { code: "USER_REJECTED" });
			if (how === "failed") throw new Error("out of order");
			const hash = await stage.send(call, account);
			sent.push(hash);
			if (how === "untold") throw new Error("no answer");
			return hash;
		},
	};
	return { account: sending, asked, sent };
}
