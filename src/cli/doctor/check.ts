/** What was looked at, and what came of it. */
export type Check = Readonly<{
	name: string;
	/** `skip`: it could not be looked at, because of something that is told elsewhere. */
	status: "ok" | "warn" | "fail" | "skip";
	detail: string;
	/** What to do about it. */
	hint?: string;
	/** For programs: amounts as decimal strings. */
	values?: Readonly<Record<string, string | number | boolean>>;
}>;

export function ok(name: string, detail: string, values?: Check["values"]): Check {
	return { name, status: "ok", detail, ...(values && { values }) };
}

export function warn(name: string, detail: string, hint: string, values?: Check["values"]): Check {
	return { name, status: "warn", detail, hint, ...(values && { values }) };
}

export function fail(name: string, detail: string, hint: string, values?: Check["values"]): Check {
	return { name, status: "fail", detail, hint, ...(values && { values }) };
}

export function skip(name: string, detail: string): Check {
	return { name, status: "skip", detail };
}
