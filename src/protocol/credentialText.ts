/** The `Authorization` value of a credential, of which most is the challenge and the same from one voucher to the next. */
import { encodeBase64url } from "./base64url.ts";
import type { Challenge } from "./challenge.ts";
import { CHALLENGE_MEMBERS, formatCredential, PAYMENT } from "./credential.ts";

type Payload = Readonly<Record<string, unknown>>;

type Head = Readonly<{
	/** What the challenge had when this was made of it: whoever has it may have changed it since. */
	values: readonly (string | undefined)[];
	/** As much of the JSON before the payload as makes whole groups of base64url, encoded. */
	encoded: string;
	/** The rest of it. */
	rest: string;
}>;

/** As many as there are challenges that somebody still has. */
const heads = new WeakMap<Challenge, Head>();

/**
 * As {@link formatCredential}, without a source; the part that its challenge makes is encoded once, which is two of four
 * microseconds. The result is a bearer token: never log it.
 *
 * @example
 * ```ts
 * headers.set("Authorization", credentialText(challenge, encodeSessionPayload(voucher)));
 * ```
 */
export function credentialText(challenge: Challenge, payload: Payload): string {
	const head = headOf(challenge);
	if (head === undefined) return formatCredential({ challenge, payload });
	return `${PAYMENT}${head.encoded}${encodeBase64url(`${head.rest}${JSON.stringify(payload)}}`)}`;
}

function headOf(challenge: Challenge): Head | undefined {
	const known = heads.get(challenge);
	if (known !== undefined && CHALLENGE_MEMBERS.every((name, at) => challenge[name] === known.values[at])) return known;
	const members = CHALLENGE_MEMBERS.map((name) => [name, challenge[name]] as const);
	// JSON.stringify leaves members out that are undefined.
	const json = JSON.stringify({ challenge: Object.fromEntries(members) });
	const text = `${json.slice(0, -1)},"payload":`;
	const whole = text.length - (text.length % 3);
	const [encoded, bytes] = [encodeBase64url(text.slice(0, whole)), (whole * 4) / 3];
	// A character that is several bytes moves the groups.
	if (encoded.length !== bytes) return undefined;
	const head = { values: members.map(([, value]) => value), encoded, rest: text.slice(whole) };
	heads.set(challenge, head);
	return head;
}
