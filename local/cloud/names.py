"""Names for generated people and devices: many scripts, quotes, emoji, right-to-left, combining marks and very long ones."""

PLAIN: list[tuple[str, str]] = [
    (given, surname)
    for given in ("Adele", "Alex", "Ben", "Carla", "Diego", "Emily", "Farid", "Grace", "Henry", "Isaiah", "Joni", "Lee")
    for surname in ("Vance", "Wilber", "Walters", "Schmidt", "Rossi", "Langer", "Sherman", "Okafor", "Novak", "Tran")
]

UNUSUAL: list[tuple[str, str]] = [
    ("Siobhán", "O'Brien"),
    ("Jean-Loïc", "D\u2019Hérouville"),
    ("François-René", "Müßig-Größe"),
    ("Þórdís", "Ævarsdóttir"),
    ("Nguyễn Thị", "Ánh Tuyết"),
    ("Łukasz", "Święcicki"),
    ("İpek", "Çağlayangil"),
    ("Ольга", "Щербакова"),
    ("Γιώργος", "Παπαδόπουλος"),
    ("دانا", "العبدالله"),
    ("נועה", "בן־דוד"),
    ("अनुष्का", "त्रिपाठी"),
    ("ณัฐวุฒิ", "ศรีสุวรรณ"),
    ("小明", "王"),
    ("さくら", "佐藤"),
    ("민준", "김"),
    ("𠮷田", "太郎"),
    ('Robert "Bob"', "Tables'); DROP TABLE users;--"),
    ("Zoë 🌸", "👩🏽‍💻 Lindqvist"),
    ("e\u0301lodie", "Cafe\u0301"),
    ("<b>Ann</b>", "R&D, \\Ops/ 100%"),
    ("=1+1", "+SUM(A1)"),
    ("Maria " * 10, "de la Santísima Trinidad y de Todos los Santos"),
    ("Null", "Undefined"),
]

JOBS = ["Engineer", "Designer", "Account manager", "Chef de projet", "Büroleitung", "Director of R&D", "営業部長"]
DEPARTMENTS = ["Research", "Sales", "Marketing", "Finance", "Facilities", "Legal", "Human Resources"]
OFFICES = ["18/2111", "Berlin 3.OG", "São Paulo", "New York - 5th Ave", "東京"]
CITIES = [("Seattle", "US"), ("Berlin", "DE"), ("São Paulo", "BR"), ("New York", "US"), ("Tokyo", "JP"), ("Oslo", "NO")]
MODELS = [
    ("Surface", "Laptop 5", "Windows", "10.0.22631.4317"),
    ("LENOVO", "ThinkPad X1 Carbon Gen 11", "Windows", "10.0.19045.3803"),
    ("Apple", "iPhone 15", "IPhone", "18.1"),
    ("Apple", "MacBook Pro", "MacMDM", "15.1"),
    ("Google", "Pixel 8", "Android", "15"),
]
