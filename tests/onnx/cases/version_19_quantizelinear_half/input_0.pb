
Bx0J2ÔpS&Ì|QkÄªNKP)TÐVÓL