import type { LocalAccount } from "viem";
import type { Provider } from "../../src/client/browser/eip1193.ts";

/** A wallet as an extension puts one into a page, with one account, which it really signs with. Remembers what it was asked. */
export class InjectedWallet implements Provider {
	readonly asked: string[] = [];
	signatures = 0;
	/** Its owner says no to whatever is to be signed. */
	isRefusing = false;
	readonly #account: LocalAccount;
	readonly #chainId: number;

	constructor(account: LocalAccount, chainId: number) {
		this.#account = account;
		this.#chainId = chainId;
	}

	async request({ method, params = [] }: Readonly<{ method: string; params?: readonly unknown[] }>): Promise<unknown> {
		this.asked.push(method);
		switch (method) {
			case "eth_requestAccounts":
			case "eth_accounts":
				return [this.#account.address];
			case "eth_chainId":
				return `0x${this.#chainId.toString(16)}`;
			case "eth_signTypedData_v4":
				if (this.isRefusing) throw Object.assign(new Error("the owner said no"), { code: 4_001 });
				this.signatures++;
				return this.#account.signTypedData(JSON.parse(String(params[1])));
			default:
				throw Object.assign(new Error(`no ${method} here`), { code: 4_200 });
		}
	}
}
